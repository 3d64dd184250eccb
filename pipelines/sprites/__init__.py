"""Clips of moving sprites with the sounds that they make, drawn from random numbers alone."""
