"""Retraining, trials and active learning."""
