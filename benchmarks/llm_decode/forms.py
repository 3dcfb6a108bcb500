"""The ways to run a step, and the step: kernels as auto chooses, this package's references, and plain JAX in several forms."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.llm_decode import plain, scanned
from benchmarks.llm_decode.models import Size
from benchmarks.model_step import forms
from benchmarks.model_step.parts import Form, alternatives
from examples.layers.parts import Batch
from examples.llm import cache, decoder
from examples.llm.config import Config
from examples.llm.decoder import Params

BLOCK = 16


class Way(forms.Way):
    """As `benchmarks.model_step.forms.Way`, of the decoder of examples/llm."""

    def own(self, params: Params) -> Params:
        return params if self.form is None else plain.own(params, self.form)

    def program(self, size: Size) -> Any:
        """`step`, jitted; the state is donated."""
        return jax.jit(self.step(size, size.config), donate_argnums=1)

    def step(self, size: Size, config: Config) -> Any:
        """``(params, state) -> (state, logits)``; the state is caches, tokens and block tables. Each step writes the last position
        again: all sequences are of one length.
        """
        count = size.batch

        def step(params: Params, state: Any) -> Any:
            caches, tokens, tables = state
            positions = jnp.full(count, size.context - 1, jnp.int32)
            slots = tables[:, -1] * BLOCK + (size.context - 1) % BLOCK
            batch = Batch(positions, slots, None, positions + 1, tables)
            if size.scanned:
                logits, caches = self.scanned(params, config, tokens, batch, caches)
            elif self.form is None:
                logits, caches = decoder.step(params, config, tokens, batch, caches, jnp.arange(count))
            else:
                logits, caches = plain.step(params, config, self.form, tokens, batch, caches)
            return (caches, jnp.argmax(logits, axis=-1).astype(jnp.int32), tables), logits

        return step

    def scanned(self, params: Params, config: Config, tokens: jax.Array, batch: Batch, cache: Any) -> tuple[jax.Array, Any]:
        """As `decoder.step` and `plain.step`, of stacked layers."""
        described, form, norms = config.layers[0], self.form, config.norms

        def layer(p: Any, delta: jax.Array, x: jax.Array, batch: Batch, cache: Any) -> Any:
            if form is None:
                return decoder.layer(p, described, norms, delta, x, batch.positions, params["rope"], batch, cache)
            return plain.layer(p, described, norms, form, delta, x, batch, params["rope"], cache)

        delta, x, cache = scanned.layers(params, layer, decoder.embed(params, config, tokens), batch, cache)
        if form is None:
            return decoder.head(params["norm"], params["head"], norms, config.logit_cap, delta, x), cache
        return plain.head(params, norms, delta, x), cache


def state(size: Size, config: Config | None = None) -> Any:
    """Full contexts of random keys and values in scattered blocks; of another config than the size's, if given."""
    width = -(-size.context // BLOCK)
    blocks, key = size.batch * width, jax.random.key(1)
    leaves, tree = jax.tree.flatten(cache.make(config or size.config, blocks, BLOCK, size.dtype))
    keys = jax.random.split(key, len(leaves))
    caches = tree.unflatten([jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)])
    caches = scanned.pooled(size.config, caches) if size.scanned else caches
    tables = jax.random.permutation(key, blocks).reshape(size.batch, width).astype(jnp.int32)
    return caches, jax.random.randint(key, (size.batch,), 0, size.config.vocabulary, jnp.int32), tables


def ways(size: Size, gpu: bool) -> list[Way]:
    """Of plain JAX each form of attention that there is here, and of a mixture each form of the experts."""
    attention = ("cudnn", "xla") if gpu else ("xla",)
    own = [Way("auto"), Way("reference", "xla")]
    m = size.mixture
    if m is None:
        return [*own, *(Way(f"plain: {how}", form=Form("dense", how)) for how in attention)]
    places = max(8, -(-2 * size.batch * m.topk // m.count // 8) * 8)
    found = alternatives(size.batch, m.topk, m.count)
    theirs = [Way(f"plain: {e}, {how}", form=Form(e, how)) for e in found for how in attention]
    padded = Way(f"plain: padded, {attention[0]}", form=Form("padded", attention[0], places), limits=forms.LIMITED)
    return [*own, *theirs, padded]
