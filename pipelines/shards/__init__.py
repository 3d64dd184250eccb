"""Plain tars at any fsspec URL: listing, reading, indexing, writing."""
