"""Structures in files: read, matched to a host, predicted, written."""
