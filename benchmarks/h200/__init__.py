"""Every op of the Triton provider on a real GPU: compared with float64 oracles, then timed. `python -m benchmarks.h200.run`."""
