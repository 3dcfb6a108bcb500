"""What `test_served.py` serves, and the plans that this needs: they are made ahead on a machine without a GPU by

XLA_FLAGS=--xla_force_host_platform_device_count=2 python -m tests.gpu.served --arch sm_90
"""

import argparse
import functools
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from examples.llm import architectures, cache
from examples.llm.config import Config
from examples.llm.decoder import Params
from examples.llm.distributed.program import Program, make_mesh
from examples.llm.serving.engine import Engine
from examples.llm.serving.request import Request, Sampling
from examples.llm.serving.runner import WHOLE, Runner, empty
from examples.llm.serving.sampling import KINDS, Controls, logprobs, sample
from examples.llm.serving.settings import Settings
from examples.train.init import init
from jax_aiter.core.config import config as settings_of
from tests.examples.llm.distributed import models
from tests.examples.llm.distributed.served import SETTINGS as TINY_SETTINGS

#: Layers of Qwen3-30B-A3B, two of them, over fewer words.
WIDE = {
    "model_type": "qwen3_moe", "vocab_size": 32768, "hidden_size": 2048, "moe_intermediate_size": 768, "intermediate_size": 6144,
    "num_hidden_layers": 2, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "num_experts": 128,
    "num_experts_per_tok": 8, "norm_topk_prob": True, "max_position_embeddings": 1024, "rope_theta": 1e6, "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}  # fmt: skip
MESHES = ({"expert": 2}, {"model": 2})
TOP = 5  # logarithms that an answer tells of each token


class Case(NamedTuple):
    """tie: how far the logarithms of two tokens may be apart that change places on a mesh."""

    raw: dict[str, Any]
    dtype: Any
    settings: Settings
    requests: int
    tokens: int
    tie: float

    @property
    def config(self) -> Config:
        return architectures.read(self.raw)

    def params(self) -> Params:
        return init(self.raw, self.config, jax.random.key(0), self.dtype, length=self.settings.max_length)

    def asked(self, engine: Engine) -> list[Request]:
        rng = np.random.default_rng(0)
        longest = self.settings.max_length - self.tokens
        prompts = [rng.integers(0, self.config.vocabulary, n).tolist() for n in np.linspace(1, longest, self.requests).astype(int)]
        return [engine.request(p, Sampling(self.tokens, temperature=0, ignore_eos=True, logprobs=TOP)) for p in prompts]


#: tiny, float32: products of TensorFloat-32 err by 2^-11 at most, logits of order 1 by less than a hundredth.
#: wide, bfloat16: logits of order 1 were apart by up to 8e-3 of their norm on two devices (docs/scaling.md); ten times it.
CASES = {
    "tiny": Case(models.RAW, jnp.float32, TINY_SETTINGS, 3, 8, 0.02),
    "wide": Case(
        WIDE,
        jnp.bfloat16,
        Settings(max_length=128, blocks=128, max_sequences=16, step_tokens=64, buckets=((16, 16), (64, 16)), whole=True),
        16,
        32,
        0.1,
    ),
}


def programs(case: Case) -> Iterator[tuple[str, Any, tuple, dict[str, Any]]]:
    """Each program that serving the case compiles, on one device and on every mesh: its name, the function, shapes it takes."""
    config, settings = case.config, case.settings
    params = jax.eval_shape(case.params)
    caches = jax.eval_shape(lambda: cache.make(config, settings.blocks, settings.block_size, case.dtype))
    spread = [Program(case.params, config, make_mesh(**sizes), drawn=False) for sizes in MESHES]
    for shape in settings.shapes:
        tokens, batch = empty(shape)
        rows = np.zeros(shape.sequences, np.int32)
        yield f"{shape} on one device", WHOLE, (params, config, tokens, batch, caches, rows), {}
        for sizes, program in zip(MESHES, spread, strict=True):
            wide = jax.eval_shape(lambda p=program: p.make(config, settings.blocks, settings.block_size, case.dtype))
            yield f"{shape} on {sizes}", program._step, (program.params, tokens, batch, wide, rows), {}
        logits = jax.ShapeDtypeStruct((shape.sequences, config.vocabulary), jnp.float32)
        for kind in KINDS:
            yield f"{kind} of {shape}", sample, (logits, Controls.neutral(shape.sequences)), {"kind": kind}
        drawn = jax.ShapeDtypeStruct((shape.sequences,), jnp.int32)
        yield f"logprobs of {shape}", logprobs, (logits, drawn), {"count": 20}


def runner(case: Case, params: Params, sizes: dict[str, int] | None) -> Runner:
    if sizes is None:
        return Runner(params, case.config, case.settings, step=functools.partial(WHOLE))
    return Program(params, case.config, make_mesh(**sizes)).runner(case.settings)


def build(arch: str) -> int:
    failed = 0
    for name, case in CASES.items():
        for what, program, given, static in programs(case):
            try:
                with settings_of(arch=arch):
                    program.trace(*given, **static).lower(lowering_platforms=("cuda" if arch.startswith("sm_") else "rocm",))
                print(f"{name}, {what}: lowered", flush=True)
            except Exception as error:  # the others go on
                print(f"{name}, {what}: {error}", flush=True)
                failed += 1
    return failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="sm_90")
    sys.exit(1 if build(parser.parse_args().arch) else 0)
