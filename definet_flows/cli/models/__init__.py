"""Commands that train, register and use models."""
