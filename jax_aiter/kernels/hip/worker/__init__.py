"""Runs in the worker process: AITER's host code, loaded with a HIP that tells what it launches, and what becomes of that.

No torch is needed, nor is jax used beyond what finding AITER's files imports; the compiler is `jax_aiter.kernels.hip.build`'s.
"""
