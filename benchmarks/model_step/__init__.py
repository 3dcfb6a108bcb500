"""A decode step and a training step of a model, with this package and without: see `benchmarks.model_step.__main__`."""
