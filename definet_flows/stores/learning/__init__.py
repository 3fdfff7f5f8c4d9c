"""Learning from records: training sets, splits, the registry of models."""
