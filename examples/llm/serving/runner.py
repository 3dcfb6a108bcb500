"""Steps on the device: parts of requests laid out in one of a few shapes, each of which is compiled before the first request."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from examples.layers.parts import Batch
from examples.llm import cache, decoder
from examples.llm.config import Config
from examples.llm.decoder import Params
from examples.llm.serving.fault import Fault
from examples.llm.serving.request import MAX_LOGPROBS, Logprob, Request
from examples.llm.serving.sampling import KINDS, Controls, logprobs, sample
from examples.llm.serving.scheduler import Part
from examples.llm.serving.settings import Settings, Shape

WHOLE = jax.jit(decoder.step, static_argnums=1, donate_argnums=4)


class Runner:
    """The parameters, and a paged cache of the dtype of the embedding.

    make, step: of the caches, and of new tokens, whose logits every device has; those of `examples.llm.distributed` run on a mesh.
    None: of one device, as `settings.whole` says. fault: without what steps cannot go on, in another process.
    """

    def __init__(
        self, params: Params, config: Config, settings: Settings, *, make: Callable[..., list[Any]] = cache.make,
        step: Callable[..., Any] | None = None, fault: Fault | None = None,
    ):  # fmt: skip
        if settings.max_length > config.max_length:
            raise ValueError(f"max_length is {settings.max_length}, but the model has {config.max_length} positions")
        self.params, self.config, self.settings, self.fault = params, config, settings, fault
        self.caches: list[Any] = make(config, settings.blocks, settings.block_size, params["embed"].dtype)
        self._step = step or (WHOLE if settings.whole else decoder.step)
        self._top = min(MAX_LOGPROBS, config.vocabulary)

    def warm_up(self) -> None:
        """Compile all that serving can call; what the cache holds stays as it is."""
        for shape in self.settings.shapes:
            logits = self._run(shape, *empty(shape))
            controls = Controls.neutral(shape.sequences)
            drawn = [sample(logits, controls, kind=kind) for kind in KINDS]
            jax.block_until_ready(logprobs(logits, drawn[0], count=self._top))

    def logits(self, parts: Sequence[Part]) -> jax.Array:
        """float32 ``[B, V]``, of which row i is after the last token of part i; the parts' keys and values are written."""
        size = self.settings.block_size
        shape = self.settings.fit(
            sum(p.new for p in parts), len(parts), max(self.settings.blocks_of(p.request.computed + p.new) for p in parts)
        )
        tokens, batch = empty(shape)
        end = 0
        for i, (request, count) in enumerate(parts):
            begin, end = end, end + count
            at = np.arange(request.computed, request.computed + count)
            blocks = np.asarray(request.blocks[: self.settings.blocks_of(request.computed + count)], np.int32)
            tokens[begin:end], batch.positions[begin:end] = request.tokens[at[0] : at[-1] + 1], at
            batch.slots[begin:end] = blocks[at // size] * size + at % size
            batch.context_lens[i], batch.tables[i, : len(blocks)] = request.computed + count, blocks
            if batch.cu_seqlens is not None:
                batch.cu_seqlens[i + 1 :] = end
        return self._run(shape, tokens, batch)

    def _run(self, shape: Shape, tokens: Any, batch: Any) -> jax.Array:
        rows = np.arange(shape.sequences) if batch.cu_seqlens is None else np.maximum(batch.cu_seqlens[1:] - 1, 0)
        tokens, batch, rows = jax.device_put((tokens, batch, rows))
        logits, self.caches = self._step(self.params, self.config, tokens, batch, self.caches, rows)
        return logits.addressable_data(0)  # tokens are drawn on one device

    def draw(self, logits: jax.Array, rows: Sequence[Request | None]) -> list[tuple[int, Logprob | None]]:
        """For each row its request's next token, and its logarithms if those were asked for; None: a row that is not wanted."""
        controls = Controls.neutral(logits.shape[0])
        for i, request in enumerate(rows):
            if request is not None:
                asked = request.sampling
                controls.temperature[i], controls.top_k[i] = asked.temperature, asked.top_k
                controls.top_p[i], controls.min_p[i] = asked.top_p, asked.min_p
                controls.seed[i] = request.seed >> 32, request.seed & 0xFFFFFFFF
                controls.drawn[i] = request.generated
        drawn = sample(logits, jax.device_put(controls), kind=controls.kind)
        wanted = [request is not None and request.sampling.logprobs is not None for request in rows]
        found = jax.device_get(logprobs(logits, drawn, count=self._top)) if any(wanted) else None
        tokens = np.asarray(drawn).tolist()
        return [
            (t, _logprob(found, i, t, r.sampling.logprobs) if w and r else None)
            for i, (t, r, w) in enumerate(zip(tokens, rows, wanted, strict=True))
        ]


def _logprob(found: Any, row: int, token: int, count: int | None) -> Logprob:
    value, top, which = (x[row] for x in found)
    return Logprob(token, float(value), tuple(zip(which[:count].tolist(), top[:count].tolist(), strict=True)))


def empty(shape: Shape) -> tuple[np.ndarray, Any]:
    """Tokens of no sequence, which write nowhere, and a `Batch` on the host of sequences of none."""
    tokens, positions = np.zeros((2, shape.tokens), np.int32)
    lens, tables = np.zeros(shape.sequences, np.int32), np.zeros((shape.sequences, shape.width), np.int32)
    ends, slots = None if shape.single else np.zeros(shape.sequences + 1, np.int32), np.full(shape.tokens, -1, np.int32)
    return tokens, Batch(positions, slots, ends, lens, tables)  # type: ignore[arg-type]
