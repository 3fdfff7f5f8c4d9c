"""Analysis of the records: rows, pairs, savings, counts."""
