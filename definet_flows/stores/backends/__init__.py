"""Where documents lie on a laptop: one SQLite file, and the journals of earlier versions that it takes in."""
