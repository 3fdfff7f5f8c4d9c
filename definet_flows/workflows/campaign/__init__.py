"""The main flow and its jobs."""
