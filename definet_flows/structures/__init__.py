"""Structures in files and in memory: read, matched to a host, predicted, written."""
