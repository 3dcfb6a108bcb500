"""`jax-aiter tune` on the mock device with planted times: real plans run and are compared, only their clock is the test's."""

import dataclasses
import json
from concurrent.futures import Future
from typing import ClassVar

import jax
import jax.numpy as jnp
import pytest
from click.testing import CliRunner

from jax_aiter.bind import select, tuning
from jax_aiter.cli import measure, tune_calls, tune_search, tune_tiles
from jax_aiter.cli import tune as tune_command
from jax_aiter.cli.main import cli
from jax_aiter.cli.tile_times import repeated
from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels import mock_driver
from jax_aiter.kernels.ahead import Outcome
from jax_aiter.kernels.args import Pointer, Scalar
from jax_aiter.kernels.builder import PlanBuilder
from jax_aiter.kernels.triton.adapters import Adapter
from jax_aiter.kernels.triton.tiles.space import Space
from tests.core.planted import Planted

COPY, ADD = "mock_copy_u32", "mock_add_u32"
SPACE = Space({"N": (1, 2, 4, 8, 16), "w": (1, 2, 4)}, {"rows": 96}, ({"N": 4, "w": 1},))
CALLS = [
    {
        "op": "rms_norm",
        "operands": {"x": ["float32", rows, 8], "weight": ["float32", 8]},
        "params": {"epsilon": 1e-6},
    }
    for rows in (96, 200, 500)
]


def plan_for(spec):
    """x copied to the result; where N is 8, x added to itself: wrong numbers."""
    n = spec.results[0].size
    b = PlanBuilder(spec.op, "mock")
    x, _, out = b.operand(4 * n, 4, "x"), b.operand(32, 4, "weight"), b.result(4 * n, 4, "out")
    wrong = spec.tile.get("N") == 8
    args = [Pointer(out), Pointer(x), *([Pointer(x)] if wrong else []), Scalar("u32", n)]
    filler = json.dumps(dict(spec.tile)).encode()  # so that plans are told apart, as compiled kernels would be
    b.launch(mock_driver.code_object(COPY, ADD, filler=filler), ADD if wrong else COPY, [1], [64], 0, args)
    return b.build()


class Provider:
    name = "triton"

    def refuse(self, call):
        return None

    def passes_over(self, call):
        return None


class Pool:
    """Builds at once what is asked for; N = 16 does not compile. compiled: what was asked, by its op's rows."""

    compiled: ClassVar[list[tuple[int, dict]]] = []

    def __init__(self, kind, jobs, nice):
        self.jobs = jobs

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, spec):
        Pool.compiled.append((spec["x"].shape[0], dict(spec.tile)))
        future = Future()
        fails = spec.tile.get("N") == 16
        future.set_result(Outcome(spec, "refused", "needs 99 bytes of shared memory") if fails else Outcome(spec, "built"))
        return future


class Clock:
    """Planted seconds by tile; each program is run, and counted."""

    def __init__(self):
        self.ran = 0
        self.interrupt_after = None

    def seconds(self, tile):
        return 1e-4 * (10 - tile.get("N", 1) + tile.get("w", 8))  # the more columns the better, the fewer warps the better

    def rounds(self, calls, most=measure.ROUNDS, queue_s=measure.QUEUE_S):
        for call in calls.values():
            jax.block_until_ready(call())
        self.ran += len(calls)
        return {name: [(1 + 0.01 * i) * self.seconds(dict(name)) for i in range(3)] for name in calls}


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A mock device that tune takes for a GPU."""
    mock_driver.configure()
    clock = Clock()
    monkeypatch.setenv("JAX_AITER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("JAX_AITER_TUNE", raising=False)
    monkeypatch.setattr(tune_command, "arch_of", lambda device: "sm_90")
    monkeypatch.setattr(tune_calls, "platform_name", lambda: "cuda")
    monkeypatch.setattr(select, "providers", lambda: (Provider(),))
    adapter = Adapter("rms_norm", lambda spec: None, None, "", lambda spec: (), lambda spec: SPACE)
    monkeypatch.setattr(tune_search, "adapters", lambda: {"rms_norm": adapter})
    monkeypatch.setattr(tune_search, "plan_for", plan_for)
    monkeypatch.setattr(tune_tiles.plans, "configured", lambda spec, root: {"": {"N": 1, "w": 4}})
    monkeypatch.setattr(tune_command, "Builders", Pool)
    monkeypatch.setattr(measure, "rounds", clock.rounds)
    monkeypatch.setattr(tune_command, "Sides", lambda *of: Planted(lambda operands: {"xla": 1e-2, "triton": 1e-3}))
    Pool.compiled = []
    return clock


def run(tmp_path, *more, calls=CALLS):
    shapes, path = tmp_path / "shapes.json", tmp_path / "tune.json"
    shapes.write_text(json.dumps(calls))
    done = CliRunner().invoke(cli, ["tune", "--shapes", str(shapes), "--out", str(path), *more], catch_exceptions=False)
    return done, json.loads(path.read_text()) if path.exists() else None


def said(done) -> str:
    """The output, however wide the terminal was."""
    return " ".join(done.output.split())


def test_the_best_tile_is_found_and_bad_ones_are_dropped(machine, tmp_path):
    done, written = run(tmp_path, calls=CALLS[:1])
    assert done.exit_code == 0, done.output
    ((key, entry),) = written["entries"].items()
    assert key.startswith("sm_90 rms_norm")
    assert entry["tile"] == {"N": 4, "w": 1}, "8 columns give wrong numbers, 16 do not compile"
    assert entry["tile_seconds"] == pytest.approx(1.01e-4 * 7)
    assert entry["own_seconds"] == pytest.approx(1.01e-4 * 17)
    assert entry["runner_up"]["tile"] in ({"N": 2, "w": 1}, {"N": 4, "w": 2})
    assert entry["runner_up"]["seconds"] > entry["tile_seconds"]
    assert entry["spread"] == pytest.approx(0.01 / 1.01)
    assert entry["bucket"] == {"rows": 96}
    assert (96, {}) in Pool.compiled
    output = said(done)
    assert "wrong numbers: result 0 is off by" in output
    assert "unfinished" not in written
    assert tuning.parse(json.dumps(written))[key].searched.tile == {"N": 4, "w": 1}


@pytest.mark.parametrize("in_place", [False, True])
def test_a_program_runs_its_plan_as_often_as_it_says_and_has_no_effects(machine, in_place):
    """With effects it would be started on JAX's slow way, which took longer than the kernels that were compared."""
    b = PlanBuilder("add", "mock")
    x, _, out = b.operand(32, 4, "x"), b.operand(8, 4, "other"), b.result(32, 4, "out")
    if in_place:
        b.alias(x, out)
    b.launch(mock_driver.code_object(ADD), ADD, [1], [64], 0, [Pointer(out), Pointer(x), Pointer(x), Scalar("u32", 8)])
    program = repeated(b.build(), [jax.ShapeDtypeStruct((8,), jnp.uint32)], 5)
    given = jnp.arange(8, dtype=jnp.uint32), jnp.zeros(2, jnp.uint32)
    lowered = program.lower(*given)
    assert "has_side_effect = true" not in lowered.as_text()
    assert lowered.compile().as_text().count('op = "add"') == 5
    (got,) = program(*given)
    assert (got == given[0] * (32 if in_place else 2)).all()


def test_a_tile_that_does_not_compile_is_counted_and_named(machine, tmp_path, monkeypatch):
    monkeypatch.setattr(tune_search, "plan_for", lambda spec: plan_for(dataclasses.replace(spec, tile={**spec.tile, "N": 1})))
    done, written = run(tmp_path, calls=CALLS[:1])
    (entry,) = written["entries"].values()
    assert entry["tile"] == {"N": 8, "w": 1}, "which is right here"
    assert "1 tile: needs 99 bytes of shared memory" in said(done)


def test_an_interrupted_run_goes_on_with_the_rest(machine, tmp_path, monkeypatch):
    times = []

    def seconds(operands):
        if len(times) == 1:
            raise KeyboardInterrupt
        times.append(operands["x"].shape[0])
        return {"xla": 1e-2, "triton": 1e-3}

    monkeypatch.setattr(tune_command, "Sides", lambda *of: Planted(seconds))
    done, written = run(tmp_path)
    assert done.exit_code == 1
    assert len(written["entries"]) == 1
    assert len(written["unfinished"]["done"]) == 1
    before = list(Pool.compiled)
    first = times[0]
    times[:] = [0, 0]
    done, written = run(tmp_path)
    assert done.exit_code == 0, done.output
    assert "3 of 3 calls measured (1 by a run that was interrupted)" in said(done)
    assert first not in {rows for rows, _ in Pool.compiled[len(before) :]}, "what was measured is not compiled again"
    assert len(written["entries"]) == 3
    assert "unfinished" not in written
    Pool.compiled = []
    done, _ = run(tmp_path)
    assert "3 of 3 calls measured," in said(done)
    assert {rows for rows, _ in Pool.compiled} == {96, 200, 500}, "a finished run is measured anew"


def test_the_budget_is_kept(machine, tmp_path):
    """Nothing more is tried once it is over; every call still gets its implementations' times."""
    done, written = run(tmp_path, "--budget", "0")
    assert done.exit_code == 0, done.output
    assert len(written["entries"]) == 3
    assert {len([t for rows, t in Pool.compiled if rows == r]) for r in (96, 200, 500)} == {2}, "the first batch: own, start"
    assert all(entry["tile"] == {"N": 4, "w": 1} for entry in written["entries"].values()), "of what was ready by then"


def test_without_tiles_nothing_is_compiled(machine, tmp_path):
    done, written = run(tmp_path, "--no-tiles")
    assert done.exit_code == 0, done.output
    assert Pool.compiled == []
    assert not any("tile" in entry for entry in written["entries"].values())
    assert len(written["entries"]) == 3


def test_aiters_own_that_cannot_run_leaves_the_reference_to_compare_with(machine, tmp_path, monkeypatch):
    """The results of tiles are then held to the op's own definition, and a copy is not a norm."""

    def plan(spec):
        if not spec.tile:
            raise KernelBuildError("no such plan")
        return plan_for(spec)

    monkeypatch.setattr(tune_search, "plan_for", plan)
    done, written = run(tmp_path, calls=CALLS[:1])
    assert done.exit_code == 0, done.output
    (entry,) = written["entries"].values()
    assert "tile" not in entry
    assert "no such plan" in said(done)
    assert "wrong numbers" in said(done)


def test_results_agree_as_far_as_rounding_lets_them():
    from jax_aiter.cli.same import differ

    x = jnp.linspace(-1, 1, 1000, dtype=jnp.bfloat16).reshape(10, 100)
    near = (x.astype(jnp.float32) * (1 + 2**-8)).astype(jnp.bfloat16)
    assert differ([near], [x], [x]) is None
    assert "off by" in differ([near.at[3, 4].add(0.1)], [x], [x])
    assert "NaN" in differ([x.at[0, 0].set(jnp.nan)], [x], [x])
    assert differ([x.at[0, 0].set(jnp.nan)], [x.at[0, 0].set(jnp.nan)], [x]) is None
    assert "NaN" in differ([x.at[0, 0].set(jnp.inf)], [x.at[0, 0].set(-jnp.inf)], [x])
    ids = jnp.arange(8)
    assert differ([ids], [ids], []) is None
    assert "off by 1" in differ([ids.at[2].set(3)], [ids], [])
    y = x.astype(jnp.float32)
    assert "off by" in differ([y + 1e-5], [y], [y])
    assert differ([y + 1e-5], [y], [x]) is None, "operands of 16 bits: the sum inside is rounded as they are"
