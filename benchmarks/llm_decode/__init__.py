"""Decode steps of the models of examples/llm, with this package and without: see `benchmarks.llm_decode.__main__`."""
