"""Makers that relax the atoms of a fixed cell."""
