"""``jax-aiter bench``: ops against the best that a JAX user has without this package, on the present device.

A row is a call of one op, the forms in which JAX itself would do it, and the bytes and operations that it needs at least.
"""
