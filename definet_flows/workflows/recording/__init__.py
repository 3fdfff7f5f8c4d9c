"""Starts of relaxations and their records: pure, no jobs."""
