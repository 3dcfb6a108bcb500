"""Compiles every way of a step, checks that they agree, and times them."""

from __future__ import annotations

import concurrent.futures
import gc
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.h200 import trace
from benchmarks.model_step import steps
from benchmarks.model_step.forms import Way
from examples.moe_lm import model
from examples.moe_lm.model import Config, Params
from jax_aiter.cli.bench.measure import difference, short

ROUNDS, STEPS = 5, 32  # of decoding, in turns
PROFILED = 4  # steps, after the timing
LONGEST = 20  # kernels that are filed
TRAINED = 4  # steps, of which the first is not timed

AnyWay = TypeVar("AnyWay", bound=Way)
Made = Mapping[Any, Any]  # compiled programs, or the reasons why there are none


def parameters(config: Config) -> Callable[[], Params]:
    return lambda: model.init(config, jax.random.key(0))


def decode_arguments(config: Config, batch: int, dtype: Any, way: Way) -> Any:
    """Shapes of what the program takes."""
    params = jax.eval_shape(lambda: way.own(model.cast(parameters(config)(), dtype)))
    return params, jax.eval_shape(lambda: steps.decoding_state(config, batch, dtype))


def train_arguments(config: Config, batch: int, way: Way) -> Any:
    state = jax.eval_shape(lambda: steps.training_state(way.own(parameters(config)())))
    return state, jax.ShapeDtypeStruct((batch, config.sequence + 1), jnp.int32)


def compiled(programs: Mapping[Any, Callable[[], Any]], threads: int) -> dict[Any, Any]:
    """`programs` lower; they are compiled by several threads."""

    def one(lower: Callable[[], Any]) -> Any:
        try:
            return lower().compile()
        except Exception as error:  # what this backend cannot run is filed with its reason
            return short(error)

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return dict(zip(programs, pool.map(one, programs.values()), strict=True))


def lowered(way: AnyWay, program: Callable[[AnyWay], tuple[Any, Any]]) -> Callable[[], Any]:
    """program: gives the way's jitted function, and shapes of what it takes."""

    def lower() -> Any:
        jitted, arguments = program(way)
        with way.settings():
            return jitted.lower(*arguments)

    return lower


def decode(
    params: Params, draw: Callable[[], Any], batch: int, ways: Sequence[Way], made: Made, tolerance: float, count: int = STEPS
) -> dict[str, Any]:
    """Tokens per second of each way, the ways in turns; the logits of a first step against auto's.

    draw: the state, of which there is one at a time: every way's step takes what the last one left. Parameters are held once for
    each layout of the experts.
    """
    found: dict[str, Any] = {}
    owned: dict[Any, Params] = {}
    drawn = jax.jit(draw)
    running: list[Way] = []
    want = None
    for way, about in _able(ways, made, found):
        try:
            if way.layout not in owned:
                owned[way.layout] = way.own(params)
            logits = jax.block_until_ready(made[way.name](owned[way.layout], drawn())[1])
        except Exception as error:  # out of memory, say
            about["failed"] = short(error)
            continue
        want = logits if want is None else want
        about["difference"] = difference(logits, want)
        _judge(about, tolerance)
        running.append(way)
    times: dict[str, list[float]] = {way.name: [] for way in running}
    state = drawn()
    for number in range(ROUNDS):
        for way in running if number % 2 == 0 else reversed(running):
            start = time.perf_counter()
            for _ in range(count):
                state, _ = made[way.name](owned[way.layout], state)
            jax.block_until_ready(state)
            times[way.name].append((time.perf_counter() - start) / count)
    for way in running:
        step = statistics.median(times[way.name])
        found[way.name] |= {"step_s": step, "tokens_per_s": batch / step}
        profiled, state = _profiled(made[way.name], owned[way.layout], state)
        found[way.name] |= profiled
    return found


def _profiled(program: Any, own: Params, state: Any) -> tuple[dict[str, Any], Any]:
    """Kernels that a step launches, and the seconds that they run: the rest of the step the device waits. And the state after."""
    if jax.default_backend() == "cpu":
        return {}, state

    def some() -> None:
        nonlocal state
        for _ in range(PROFILED):
            state, _ = program(own, state)
        jax.block_until_ready(state)

    try:
        kernels = trace.with_jax(some)
    except (trace.NoDeviceEvents, RuntimeError, ValueError) as error:  # what `trace.choose` takes for "it does not work here"
        return {"unprofiled": short(error)}, state
    return {
        "kernels": len(kernels) / PROFILED,
        "busy_s": sum(kernel.duration for kernel in kernels) / 1e9 / PROFILED,
        "longest": trace.by_kernel(kernels, PROFILED)[:LONGEST],
    }, state


def train(config: Config, batch: int, ways: list[Way], made: Made, tolerance: float) -> dict[str, Any]:
    """The same for training steps, one way after the other: their states do not fit side by side. The bits per byte of every step
    are compared with auto's; from the second on they depend on the gradients.
    """
    found: dict[str, Any] = {}
    want, drawn = None, jax.jit(parameters(config))
    tokens = np.random.default_rng(0).integers(0, 64, (batch, config.sequence + 1))
    tokens = jnp.asarray(tokens.cumsum(1) % 251, jnp.int32)  # something to be learnt: the next byte is near the last
    for way, about in _able(ways, made, found):
        try:
            state = jax.jit(lambda params, way=way: steps.training_state(way.own(params)))(drawn())
            bits, seconds = [], []
            for _ in range(TRAINED):
                start = time.perf_counter()
                state, loss = made[way.name](state, tokens)
                bits.append(float(loss))
                seconds.append(time.perf_counter() - start)
        except Exception as error:
            about["failed"] = short(error)
            continue
        finally:
            state = loss = None
            gc.collect()
        want = bits if want is None else want
        step = statistics.median(seconds[1:])
        about |= {"bits": bits, "step_s": step, "tokens_per_s": batch * config.sequence / step}
        about["difference"] = max(abs(b - w) / w for b, w in zip(bits, want, strict=True))
        _judge(about, tolerance)
    return found


def _able(ways: Iterable[Way], made: Made, found: dict[str, Any]) -> Iterator[tuple[Way, dict[str, Any]]]:
    """The ways that there is a program of, each with its place in `found`, where those without one get the reason."""
    for way in ways:
        about = found[way.name] = {"limits": way.limits} if way.limits else {}
        if isinstance(made[way.name], str):
            about["failed"] = made[way.name]
        else:
            yield way, about


def _judge(about: dict[str, Any], tolerance: float) -> None:
    if not about["difference"] <= tolerance:
        about["failed"] = f"other numbers than ours: {about['difference']:.2e} apart, {tolerance:.0e} allowed"
