"""Train the mixture-of-experts decoder of `examples.llm` on real text, on a mesh of devices: ``python -m examples.train``."""
