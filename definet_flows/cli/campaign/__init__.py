"""Commands that make and run campaigns."""
