"""What the records say: rows, pairs, savings, counts."""
