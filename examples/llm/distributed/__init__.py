"""The decoder on a mesh of devices: heads and columns split (tensor parallel), experts spread (expert parallel).

What differs from one device is data: `layout` gives each device its share of the weights, `axes` the description of a decoder with
such shares, and `examples.llm.decoder` runs it inside of `jax.shard_map` (`program`).
``python -m examples.llm.distributed`` answers a prompt.
"""
