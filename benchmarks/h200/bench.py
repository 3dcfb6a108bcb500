"""The timing tables: our launches against the same kernels launched from torch, against XLA, and the time to trace."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import statistics
import subprocess
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.h200.case import Case, Shapes
from benchmarks.h200.execute import plan_of, runs_plan, through_plan
from benchmarks.h200.suite import Timed, timed
from jax_aiter.bind import tuning
from jax_aiter.cli.measure import OneOp, side_by_side
from jax_aiter.core.config import config
from jax_aiter.kernels.call import call_plan
from jax_aiter.kernels.plan import Launch, LaunchPlan
from jax_aiter.ops.catalogue import all_ops


def draw(case: Case) -> dict[str, jax.Array]:
    """The case's inputs; large random arrays are drawn on the device, where that takes no time."""
    arrays = case.make(Shapes(np.random.PCG64(0)))
    return {name: _drawn(value, seed) for seed, (name, value) in enumerate(arrays.items())}


def _drawn(value: np.ndarray, seed: int) -> jax.Array:
    if value.size < 2 or any(value.strides):  # indices and tables are real already
        return jax.numpy.asarray(value)
    if value.dtype == np.float32:
        return jax.random.uniform(jax.random.key(seed), value.shape, minval=0.005, maxval=0.02)
    return jax.random.normal(jax.random.key(seed), value.shape, jax.numpy.bfloat16).astype(value.dtype)


def host_seconds_per_call(call: Callable[..., Any], values: list[jax.Array]) -> float:
    """Host time to dispatch one call of the compiled program, the device idle before and not waited for."""
    function, times = jax.jit(call), []
    for _ in range(30):
        jax.block_until_ready(function(*values))
        start = time.perf_counter()
        result = function(*values)
        times.append(time.perf_counter() - start)
        jax.block_until_ready(result)
    return statistics.median(times)


def copy_rate() -> float:
    """Bytes per second (read plus written) of a large device copy."""
    x = jax.numpy.ones((1 << 28,), jax.numpy.float32)
    scaled = jax.jit(lambda v: v * jax.numpy.float32(1.5))
    return 2.0 * x.nbytes / side_by_side({"copy": lambda: scaled(x)})["copy"]


def matrix_rate() -> float:
    """bfloat16 operations per second of XLA's own large matrix product."""
    n = 8192
    a, b = (jax.random.normal(jax.random.key(i), (n, n), jax.numpy.bfloat16) for i in range(2))
    product = jax.jit(jax.numpy.matmul)
    return 2.0 * n**3 / side_by_side({"product": lambda: product(a, b)})["product"]


def one(entry: Timed, arch: str, tuned: Path | None) -> dict[str, Any]:
    case = entry.case
    arrays: dict[str, Any] = draw(case)
    plan = plan_of(case, arrays, arch)
    results = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in case.results(arrays)]
    values = list(arrays.values())
    call = lambda *operands: call_plan(plan, *operands, result_shape_dtypes=results)  # noqa: E731
    launches = sum(isinstance(step, Launch) for step in plan.steps)
    row: dict[str, Any] = {"case": case.label, "launches": launches, "moved": entry.moved, "work": entry.work}
    row["host_per_launch_s"] = host_seconds_per_call(call, values) / launches
    row["trace_s"] = _trace_seconds(case, arrays, arch, values)
    row |= _against_reference(case, arrays, arch, tuned)
    if importlib.util.find_spec("torch") is not None:
        row |= _from_torch(plan, values)
    return row


def _against_reference(case: Case, arrays, arch: str, tuned: Path | None) -> dict[str, Any]:
    """Our kernels, XLA's lowering, what auto takes by its rule and (`tuned`) by a tuning file: one run, in turns."""
    calls, row = {}, {}
    named = {"ours": ("triton", None), "xla": ("xla", None), "auto": (None, None)} | ({"tuned": (None, tuned)} if tuned else {})
    for name, (implementation, file) in named.items():
        with _tuning_file(file), config(arch=arch):
            calls[name] = OneOp(all_ops()[case.op], case.params, arrays, implementation)
        if implementation is None:
            row[f"{name}_took"] = "triton" if runs_plan(calls[name].lowered) else "xla"
            row[f"{name}_is_xla"] = calls[name].lowered.as_text() == calls["xla"].lowered.as_text()
    row |= {f"{name}_s": seconds for name, seconds in side_by_side(calls).items()}
    return {**row, "difference": _difference(calls["ours"]()[0], calls["xla"]()[0])}


@contextlib.contextmanager
def _tuning_file(path: Path | None) -> Iterator[None]:
    """Auto reads this tuning file inside, or none: then its documented rule decides."""
    before = os.environ.get(tuning.ENVIRONMENT)
    with tempfile.TemporaryDirectory() as folder:
        if path is None:
            path = Path(folder, "empty.json")
            path.write_bytes(tuning.render({}))
        os.environ[tuning.ENVIRONMENT] = str(path)
        try:
            yield
        finally:
            os.environ.pop(tuning.ENVIRONMENT)
            if before is not None:
                os.environ[tuning.ENVIRONMENT] = before


def _trace_seconds(case, arrays, arch: str, values) -> float:
    """Reading the plan from the cache, tracing and lowering: what a process with a warm cache waits for."""
    start = time.perf_counter()
    through_plan(case, arrays, arch).lower(*values)  # type: ignore[attr-defined]
    return time.perf_counter() - start


def _difference(got: jax.Array, want: jax.Array) -> float:
    """‖got - want‖ / ‖want‖ in float32."""
    got, want = (x.astype(jax.numpy.float32) for x in (got, want))
    return float(jax.numpy.linalg.norm(got - want) / jax.numpy.linalg.norm(want))


def _from_torch(plan: LaunchPlan, values: list[jax.Array]) -> dict[str, Any]:
    from benchmarks.h200 import replay

    try:
        replayed = replay.Replay(plan, [value.unsafe_buffer_pointer() for value in values], replay.driver())
        return {"driver_host_s": replayed.host_seconds_per_launch()}
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:  # no compiler, no memory left for torch
        return {"torch_failed": f"{type(error).__name__}: {error}"[:300]}


def bench_all(
    arch: str, ops: set[str], tuned: Path | None = None, filed: Callable[[dict], None] = lambda found: None
) -> dict[str, Any]:
    """Rows of the table and the card's two measured rates; `filed` is given them after every row."""
    rates = {"copy_bytes_per_s": copy_rate(), "matrix_flops": matrix_rate()}
    print(f"copy {rates['copy_bytes_per_s'] / 1e12:.2f} TB/s, bf16 product {rates['matrix_flops'] / 1e12:.0f} TF/s", flush=True)
    rows = []
    for entry in timed(arch):
        if ops and entry.case.op not in ops:
            continue
        try:
            row = one(entry, arch, tuned)
        except Exception as error:  # one shape must not cost the others their numbers; it is reported as it is
            traceback.print_exc()
            rows.append({"case": entry.case.label, "failed": f"{type(error).__name__}: {error}"[:300]})
            continue
        rows.append(row)
        print(line(row, rates), flush=True)
        filed({"rates": rates, "bench": rows})
    return {"rates": rates, "bench": rows}


def line(row: dict[str, Any], rates: dict[str, float]) -> str:
    """One row of the table: times in microseconds."""
    ours = row["ours_s"]
    share = max(row["moved"] / ours / rates["copy_bytes_per_s"], row["work"] / ours / rates["matrix_flops"])
    parts = [f"{row['case']:60} ours {ours * 1e6:9.1f}", f"{share:4.0%} of the card"]
    parts.append(f"xla {row['xla_s'] * 1e6:9.1f} (x{row['xla_s'] / ours:.2f})")
    for name in ("auto", "tuned"):
        if f"{name}_s" in row:
            parts.append(f"{name} {row[f'{name}_took']} {row[f'{name}_s'] / row['xla_s']:.3f} of xla")
    parts.append(f"host/launch {row['host_per_launch_s'] * 1e6:.2f}")
    if "driver_host_s" in row:
        parts.append(f"bare {row['driver_host_s'] * 1e6:.2f}")
    parts.append(f"{row['launches']} launches, trace {row['trace_s'] * 1e3:.0f} ms")
    if "torch_failed" in row:
        parts.append(row["torch_failed"])
    if "difference" in row:
        parts.append(f"diff {row['difference']:.1e}")
    return ", ".join(parts)
