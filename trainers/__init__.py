"""Training: batches become checkpoints and scores."""
