"""Contracts of training: objectives, evaluations, trackers, engines."""
