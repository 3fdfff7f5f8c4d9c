"""Checkpoints and what they predict."""
