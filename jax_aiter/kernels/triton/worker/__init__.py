"""The recording worker: a separate process with torch and Triton, one per target architecture.

Nothing here is imported by the user's process. `main.py` is run as a script (it needs neither jax nor this package's
__init__), so a worker may live in another Python environment than the one that traces.
"""
