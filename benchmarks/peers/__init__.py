"""Each op against the best that a JAX user has without this package: see `benchmarks.peers.__main__`."""
