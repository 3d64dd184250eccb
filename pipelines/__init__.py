"""Data plane: tars in a bucket become batches on a device."""
