"""Commands that read and add records."""
