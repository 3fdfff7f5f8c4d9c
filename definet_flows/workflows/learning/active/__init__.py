"""Active learning of a pool of configurations."""
