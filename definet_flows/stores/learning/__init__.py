"""What the records teach: training sets, splits, the registry of models."""
