"""Evaluations of frozen models: one file each; the file's name is its ``kind``."""
