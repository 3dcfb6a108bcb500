"""The same work on one device and on more of them, side by side: see `benchmarks.scaling.__main__`."""
