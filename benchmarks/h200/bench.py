"""The timing tables: our launches against the same kernels launched from torch, against XLA, and the time to trace."""

from __future__ import annotations

import importlib.util
import statistics
import subprocess
import time
import traceback
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.h200.case import Case, Shapes
from benchmarks.h200.execute import plan_of, through_op, through_plan
from benchmarks.h200.suite import Timed, timed
from jax_aiter.kernels.call import call_plan
from jax_aiter.kernels.plan import Launch, LaunchPlan

#: calls in one queue.
CALLS = 40
REFERENCE_CALLS = 10


def median_seconds(run: Callable[[], Any], repeats: int = 9) -> float:
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def device_seconds(call: Callable[..., Any], values: list[jax.Array], calls: int = CALLS) -> float:
    """Time of one call in a queue of asynchronous calls of one compiled program.

    The device is the bottleneck, and this its time, wherever it exceeds what the host needs to dispatch a call, some 10 to 20 µs;
    for shorter kernels it is an upper bound. (Several calls inside one program would not do: XLA shares or drops equal ones.)
    """
    function = jax.jit(call)

    def queue():
        results = None
        for _ in range(calls):
            results = function(*values)
        jax.block_until_ready(results)

    return median_seconds(queue) / calls


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
    seconds = device_seconds(lambda v: [v * jax.numpy.float32(1.5)], [x])
    return 2.0 * x.nbytes / seconds


def matrix_rate() -> float:
    """bfloat16 operations per second of XLA's own large matrix product."""
    n = 8192
    a, b = (jax.random.normal(jax.random.key(i), (n, n), jax.numpy.bfloat16) for i in range(2))
    return 2.0 * n**3 / device_seconds(lambda x, y: [x @ y], [a, b])


def one(entry: Timed, arch: str) -> dict[str, Any]:
    case = entry.case
    arrays: dict[str, Any] = draw(case)
    plan = plan_of(case, arrays, arch)
    results = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in case.results(arrays)]
    values = list(arrays.values())
    call = lambda *operands: call_plan(plan, *operands, result_shape_dtypes=results)  # noqa: E731
    launches = sum(isinstance(step, Launch) for step in plan.steps)
    row: dict[str, Any] = {"case": case.label, "launches": launches, "moved": entry.moved, "work": entry.work}
    row["ours_s"] = device_seconds(call, values)
    row["host_per_launch_s"] = host_seconds_per_call(call, values) / launches
    row["trace_s"] = _trace_seconds(case, arrays, arch, values)
    if importlib.util.find_spec("torch") is not None:
        row |= _from_torch(plan, values)
    reference = through_op(case, arrays, arch, "xla")
    if reference is not None:
        row["xla_s"] = device_seconds(reference, values, REFERENCE_CALLS)
        row["difference"] = _difference(through_plan(case, arrays, arch)(*values)[0], reference(*values)[0])
    return row


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
        return {"torch_s": replayed.device_seconds(), "driver_host_s": replayed.host_seconds_per_launch()}
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:  # no compiler, no memory left for torch
        return {"torch_failed": f"{type(error).__name__}: {error}"[:300]}


def bench_all(arch: str, ops: set[str]) -> dict[str, Any]:
    """Rows of the table and the card's two measured rates."""
    rates = {"copy_bytes_per_s": copy_rate(), "matrix_flops": matrix_rate()}
    print(f"copy {rates['copy_bytes_per_s'] / 1e12:.2f} TB/s, bf16 product {rates['matrix_flops'] / 1e12:.0f} TF/s", flush=True)
    rows = []
    for entry in timed(arch):
        if ops and entry.case.op not in ops:
            continue
        try:
            row = one(entry, arch)
        except Exception as error:  # one shape must not cost the others their numbers; it is reported as it is
            traceback.print_exc()
            rows.append({"case": entry.case.label, "failed": f"{type(error).__name__}: {error}"[:300]})
            continue
        rows.append(row)
        print(line(row, rates), flush=True)
    return {"rates": rates, "bench": rows}


def line(row: dict[str, Any], rates: dict[str, float]) -> str:
    """One row of the table: times in microseconds."""
    ours = row["ours_s"]
    share = max(row["moved"] / ours / rates["copy_bytes_per_s"], row["work"] / ours / rates["matrix_flops"])
    parts = [f"{row['case']:60} ours {ours * 1e6:9.1f}", f"{share:4.0%} of the card"]
    for name, key in (("torch", "torch_s"), ("xla", "xla_s")):
        if key in row:
            parts.append(f"{name} {row[key] * 1e6:9.1f} (x{row[key] / ours:.2f})")
    parts.append(f"host/launch {row['host_per_launch_s'] * 1e6:.2f}")
    if "driver_host_s" in row:
        parts.append(f"bare {row['driver_host_s'] * 1e6:.2f}")
    parts.append(f"{row['launches']} launches, trace {row['trace_s'] * 1e3:.0f} ms")
    if "torch_failed" in row:
        parts.append(row["torch_failed"])
    if "difference" in row:
        parts.append(f"diff {row['difference']:.1e}")
    return ", ".join(parts)
