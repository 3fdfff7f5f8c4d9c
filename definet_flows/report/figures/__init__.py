"""Figures as data, and drawn for the page and for files."""
