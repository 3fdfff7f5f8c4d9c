"""Stores for a laptop: a SQLite file, and the journals of earlier versions that it imports."""
