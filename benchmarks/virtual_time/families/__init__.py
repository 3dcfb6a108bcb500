"""Calls of the ops that no layer of `benchmarks.virtual_time.layers` makes, by family, at a size of the model that they are for."""
