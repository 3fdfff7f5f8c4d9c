"""What a relaxation starts from, and what its record says: pure, no jobs."""
