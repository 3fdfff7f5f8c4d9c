"""Thin job shells, relaxation engines and flows."""
