"""Benchmarks: ratios against a peer or a limit, interleaved in one run, medians of rounds."""
