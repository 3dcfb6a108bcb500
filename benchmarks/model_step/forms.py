"""The three ways to run a step: on kernels as auto chooses, on this package's references, and in plain JAX."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

import jax_aiter
from benchmarks.model_step import plain
from benchmarks.model_step.parts import Form, alternatives
from examples.moe_lm import decode, model
from examples.moe_lm.cache import Cache
from examples.moe_lm.model import Config, Params

LIMITED = "each expert has room for twice the mean number of tokens, and drops what is beyond"


@dataclasses.dataclass(frozen=True)
class Way:
    """name: as it is filed; plain JAX has several, of which the fastest that is right counts. form: None is this package."""

    name: str
    implementation: str | None = None
    form: Form | None = None
    limits: str = ""

    def settings(self) -> Any:
        """The `with` block in which the step is traced."""
        return jax_aiter.config(implementation=self.implementation) if self.implementation else contextlib.nullcontext()

    @property
    def layout(self) -> tuple[str, ...]:
        """Which of the experts' weights are swapped: ways of one layout take the same parameters."""
        return () if self.form is None else self.form.swapped

    def own(self, params: Params) -> Params:
        return params if self.form is None else plain.own(params, self.form)

    def sequences(self, params: Params, config: Config, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        if self.form is None:
            return model.forward_sequences(params, config, tokens)
        return plain.forward_sequences(params, config, self.form, tokens)

    def decoded(self, params: Params, cache: Cache, history: jax.Array, lens: jax.Array, tables: jax.Array, config: Config):
        """The next bytes int32 [B], logits float32 [B, 256] and the cache; the likeliest byte is taken."""
        if self.form is None:
            return decode.decode(params, cache, history, lens, tables, jax.random.key(0), jnp.float32(0), config=config)
        logits, cache = plain.decode(params, cache, history, lens, tables, config, self.form)
        return jnp.argmax(logits, axis=-1).astype(jnp.int32), logits, cache


def ways(config: Config, tokens: int, gpu: bool) -> list[Way]:
    """tokens: of the step, by which the padded form's places follow. Without a GPU there is no cuDNN."""
    places = max(8, -(-2 * tokens * config.topk // config.experts // 8) * 8)
    attention = ("cudnn", "xla") if gpu else ("xla",)
    own = [Way("auto"), Way("reference", "xla")]
    found = alternatives(tokens, config.topk, config.experts)
    theirs = [Way(f"plain: {experts}, {how}", form=Form(experts, how)) for experts in found for how in attention]
    padded = [Way(f"plain: padded, {how}", form=Form("padded", how, places), limits=LIMITED) for how in attention[:1]]
    return [*own, *theirs, *padded]
