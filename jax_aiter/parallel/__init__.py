"""Layers that span devices: functions to call inside of `jax.shard_map`, made of this package's ops and JAX's collectives."""

from jax_aiter.parallel.expert_parallel import expert_parallel as expert_parallel
