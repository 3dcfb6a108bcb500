"""``python -m examples.llm.against_cpu``: one answer on this process's accelerator, held against the same model on the CPU.

Under ``vgpu run`` the accelerator is a virtual MI300X; with its ``--profile`` and ``--estimate`` it is said too what a token took.
"""

import collections
import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Any

import click
import jax
import jax.numpy as jnp
import numpy as np

import jax_aiter
from examples.layers.parts import Batch
from examples.llm import cache, decoder
from examples.llm.__main__ import find
from examples.llm.config import Config
from examples.llm.decoder import Params
from examples.llm.generate import choose
from examples.llm.open import open_model
from examples.llm.session import Session

PROMPT = "What is the capital of France?"
#: Of ``vgpu run``: the variable that names a file of launches, what of each is added up, and what that is.
WRITTEN = {"VGPU_PROFILE": ("instructions", "wave-instructions"), "VGPU_ESTIMATE": ("us", "µs (estimated)")}


class Launches:
    """What ``vgpu run`` has written down; nothing without its options."""

    def __init__(self):
        self._read = dict.fromkeys(WRITTEN, 0)

    def since(self) -> dict[str, float]:
        """Of the launches since the last call: how many, and the sums of `WRITTEN`."""
        found: dict[str, float] = {}
        for variable, (field, name) in WRITTEN.items():
            path = Path(os.environ.get(variable, ""))
            if path.is_file():
                with path.open() as file:
                    file.seek(self._read[variable])
                    launches = [json.loads(line) for line in iter(file.readline, "")]
                    self._read[variable] = file.tell()
                found |= {"launches": len(launches), name: sum(x[field] for x in launches)}
        return found


def answer(session: Session, prompt: list[int], count: int, stops: frozenset[int]) -> tuple[list[int], np.ndarray, list[dict]]:
    """The most probable tokens until the model stops, the logits ``[n, V]`` that each was taken from, and what its step took."""
    launches, rng = Launches(), np.random.default_rng(0)
    tokens, rows, steps = [], [], []
    launches.since()
    while len(tokens) < count and not stops & set(tokens):
        begin = time.perf_counter()
        (logits,) = session.feed([tokens[-1:] or prompt])
        steps.append({"s": time.perf_counter() - begin, **launches.since()})
        rows.append(logits)
        tokens.append(choose(logits, 0.0, rng))
    return tokens, np.stack(rows), steps


def implementations(params: Params, config: Config, session: Session) -> dict[str, list[str]]:
    """What each op of a step with one new token runs on: one layer of each kind, and the head."""
    firsts = [config.layers.index(kind) for kind in dict.fromkeys(config.layers)]
    config = dataclasses.replace(config, layers=tuple(config.layers[i] for i in firsts))
    params = {**params, "layers": [params["layers"][i] for i in firsts]}
    caches = jax.eval_shape(lambda: cache.make(config, session.tables.size, session.block_size, params["embed"].dtype))

    def i32(*shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, jnp.int32)

    batch = Batch(i32(1), i32(1), None, i32(1), i32(*session.tables.shape))
    step = lambda p, *operands: decoder.step(p, config, *operands)  # noqa: E731
    found = collections.defaultdict(list)
    for one in jax_aiter.explain(step, params, i32(1), batch, caches, i32(1)):
        if one.op not in found[one.implementation]:
            found[one.implementation].append(one.op)
    return dict(found)


def whole_pass(params: Params, config: Config, tokens: list[int], first: int) -> np.ndarray:
    """Logits float32 ``[n, V]`` of `tokens` where the parameters are: those from which token `first` and all after it are taken."""
    (device,) = params["embed"].devices()
    logits = decoder.forward(params, config, jax.device_put(np.asarray([tokens[:-1]], np.int32), device))
    return np.asarray(logits)[0, first - 1 :]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """device, cpu: the largest difference of their logits in bfloat16 from the CPU's in float32, over the largest of these.

    ties: places where the device took another token than bfloat16 on the CPU would, with how far the two are apart in float32, over
    the largest logit.
    """

    device: float
    cpu: float
    ties: dict[int, float]

    def check(self) -> None:
        """Raises AssertionError where the device's logits are thrice as far off as the CPU's, or its token no tie."""
        if self.device > 3 * self.cpu:
            raise AssertionError(f"logits differ from float32 by {self.device:.1e}, those of bfloat16 on the CPU by {self.cpu:.1e}")
        for place, apart in self.ties.items():
            if apart > 2 * self.cpu:
                raise AssertionError(f"token {place} leaves the CPU's answer, where two tokens are {apart:.1e} apart: no tie")


def compare(device: np.ndarray, short: np.ndarray, exact: np.ndarray) -> Verdict:
    """Of logits ``[n, V]`` after the same tokens: of the device, of the CPU in bfloat16, and there in float32."""
    top, taken, wanted = np.abs(exact).max(), device.argmax(1), short.argmax(1)
    lead = np.abs(np.take_along_axis(exact, wanted[:, None], 1) - np.take_along_axis(exact, taken[:, None], 1))[:, 0] / top
    ties = {int(i): float(lead[i]) for i in np.flatnonzero(taken != wanted)}
    return Verdict(float(np.abs(device - exact).max() / top), float(np.abs(short - exact).max() / top), ties)


def report(name: str, steps: list[dict]) -> None:
    """The mean of `steps`."""
    means = {n: float(np.mean([s[n] for s in steps])) for n in steps[0]}
    seconds = means.pop("s")
    click.echo(f"{name}: " + ", ".join([f"{value:,.0f} {n}" for n, value in means.items()] + [f"{seconds:.1f} s here"]))


@click.command(context_settings={"show_default": True})
@click.option(
    "--model", type=click.Path(path_type=Path, exists=True), help="A folder of Hugging Face's, or a GGUF file.  [default: SmolLM2]"
)
@click.option("--prompt", default=PROMPT)
@click.option("--tokens", default=8, help="The most tokens of an answer.")
@click.option("--layers", type=int, help="Only so many of the model's first layers; its answer is then no text.")
def main(model, prompt, tokens, layers) -> None:
    """Answer on the accelerator in bfloat16, and fail where the answer is not the CPU's up to ties within bfloat16's rounding."""
    opened = open_model(find(model))
    config = dataclasses.replace(opened.config, layers=opened.config.layers[:layers])
    asked = opened.tokenizer.chat([{"role": "user", "content": prompt}])
    length = len(asked) + tokens
    cpu, device = jax.devices("cpu")[0], jax.devices()[0]
    with jax.default_device(cpu):
        params = opened.load(dtype="bfloat16", scheme="none", length=length)
    params = jax.device_put({**params, "layers": params["layers"][:layers]}, cpu)
    placed = jax.device_put(params, device)
    session = Session(placed, config, length=length, sizes=(len(asked),))
    click.echo(f"{opened.config.model_type}, {len(config.layers)} layers in bfloat16 on {device.device_kind}")
    for implementation, ops in implementations(placed, config, session).items():
        click.echo(f"{implementation}: {', '.join(ops)}")
    taken, logits, steps = answer(session, asked, tokens, opened.tokenizer.stops)
    click.echo(opened.tokenizer.decode(taken))
    report(f"the prompt's {len(asked)} tokens", steps[:1])
    if len(steps) > 2:  # the second compiles its program
        report("a token", steps[2:])

    whole = [*asked, *taken]
    short = whole_pass(params, config, whole, len(asked))
    exact = whole_pass(jax.tree.map(lambda x: x.astype(jnp.float32), params), config, whole, len(asked))
    verdict = compare(logits, short, exact)
    click.echo(f"off the CPU's logits in float32 by {verdict.device:.1e} of the largest, its own in bfloat16 by {verdict.cpu:.1e}")
    verdict.check()
    same = "the same tokens as on the CPU in bfloat16"
    click.echo(same if not verdict.ties else f"{same}, but {len(verdict.ties)} that tie: {verdict.ties}")


if __name__ == "__main__":
    main()
