"""Times the forms of one row in turns, and checks that they give the same numbers."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import gc
import statistics
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

import jax_aiter
from jax_aiter.cli.bench import chain, limits
from jax_aiter.cli.bench.row import Operands, Peer, Row, unchanged
from jax_aiter.cli.measure import rounds

#: of a chain and how many calls it is: what runs on the device in one call, by kernel.
Profile = Callable[[Callable[[], Any], int], list[tuple[str, float, float]]]


@dataclasses.dataclass
class Form:
    """A form of a row, compiled: `prepared` makes its operands of the row's where they differ, `chained` is its chain of calls, for
    `chain.Chain`, `check` compares results with ours. `failed` says why there is none.
    """

    peer: Peer
    prepared: Any = None
    chained: Any = None
    check: Any = None
    failed: str = ""


def short(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".replace("\n", " ")[:200]


@dataclasses.dataclass
class Programs:
    """What a row runs: how its operands are drawn, and its forms."""

    draw: Any
    forms: dict[str, Form]


def structs(row: Row, peer: Peer) -> Operands:
    """Shapes of the operands that a form takes; nothing is drawn."""
    return jax.eval_shape(lambda: peer.prepare(row.draw()))


def count(row: Row, rates: dict[str, Any]) -> int:
    return chain.calls(limits.seconds(row.moved, row.work, row.rate, rates))


def compiled(row: Row, peer: Peer, calls: int, arch: str | None) -> Form:
    """A form that this backend, or this package, cannot run is kept with its reason."""
    form, operands = Form(peer), structs(row, peer)

    def check(got: Any, want: Any) -> jax.Array:
        return apart(row.view(peer.restore(got)), row.view(want))

    try:
        if peer.prepare is not unchanged:
            # A copy of what stays as it is: the chain donates it.
            prepare = jax.jit(lambda drawn: jax.tree.map(jnp.copy, peer.prepare(drawn)))
            form.prepared = prepare.lower(jax.eval_shape(row.draw)).compile()
        results = jax.eval_shape(peer.call, operands), jax.eval_shape(row.ours(None), jax.eval_shape(row.draw))
        form.check = jax.jit(check).lower(*results).compile()
        form.chained = chain.program(peer.call, row.through, calls, arch).lower(operands).compile()
    except Exception as error:  # any error of XLA's or of a provider's is the reason filed for the form
        form.failed = short(error)
    return form


def compile_all(rows: Iterable[Row], rates: dict[str, Any], arch: str | None, threads: int) -> dict[str, Programs]:
    """Every form of every row, compiled by several threads: before anything is timed, so that nothing runs beside a timing."""
    rows = list(rows)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        jobs = {
            (row.name, name): pool.submit(compiled, row, peer, count(row, rates), arch)
            for row in rows
            for name, peer in row.forms(arch is not None).items()
        }
        draws = {row.name: pool.submit(lambda row=row: jax.jit(row.draw).lower().compile()) for row in rows}
        done = {name: Programs(job.result(), {}) for name, job in draws.items()}
        for (row, name), job in jobs.items():
            done[row].forms[name] = job.result()
    return done


def apart(got: Any, want: Any) -> jax.Array:
    """The largest ‖got - want‖ / ‖want‖ of the results, in float32; NaN if either holds one."""

    def one(g: jax.Array, w: jax.Array) -> jax.Array:
        g, w = g.astype(jnp.float32), w.astype(jnp.float32)
        return jnp.linalg.norm(g - w) / jnp.maximum(jnp.linalg.norm(w), 1e-30)

    return jnp.max(jnp.stack([one(g, w) for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True)]))


def difference(got: Any, want: Any) -> float:
    """`apart`, run."""
    return float(jax.jit(apart)(got, want))


def one(row: Row, programs: Programs, rates: dict[str, Any], profile: Profile | None = None) -> dict[str, Any]:
    """The row as it is filed: what ran, how long, and what did not; with `profile` also on which kernels."""
    calls, ours, found = count(row, rates), programs.forms["auto"], {}
    drawn = chain.Held(programs.draw)
    layouts: dict[Any, chain.Held] = {unchanged: drawn}
    explained = jax_aiter.explain(row.ours(None), jax.eval_shape(row.draw))
    filed: dict[str, Any] = {
        "name": row.name,
        "op": row.op,
        "calls": calls,
        "limit_s": limits.seconds(row.moved, row.work, row.rate, rates),
        "takes": {e.op: e.implementation for e in explained},
        "forms": found,
    }
    if ours.failed:
        return {**filed, "failed": ours.failed}
    want = chain.Chain(ours.chained, drawn)()
    timed: dict[str, Callable[[], Any]] = {}
    for name, form in programs.forms.items():
        about: dict[str, Any] = {"limits": form.peer.limits} if form.peer.limits else {}
        found[name] = about
        if form.failed:
            about["failed"] = form.failed
            continue
        try:
            held = layouts.setdefault(form.peer.prepare, chain.Held(lambda form=form: form.prepared(drawn())))
            run = chain.Chain(form.chained, held)
            about["difference"] = float(form.check(run(), want))
        except Exception as error:  # out of memory, say: the form has no time, the row goes on
            about["failed"] = short(error)
            continue
        timed[name] = run
        if not about["difference"] <= row.tolerance:
            about["failed"] = f"other numbers than ours: {about['difference']:.2e} apart, {row.tolerance:.0e} allowed"
    for name, seconds in rounds(timed).items():
        low, _, high = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else seconds * 3
        found[name] |= {"s": statistics.median(seconds) / calls, "quartiles": [low / calls, high / calls]}
    if profile:
        for name, run in timed.items():
            found[name]["kernels"] = profile(run, calls)
    return filed


def all_rows(
    rows: list[Row],
    rates: dict[str, Any],
    arch: str | None,
    threads: int,
    filed: Callable[[list[dict[str, Any]]], None],
    profile: Profile | None = None,
) -> list[dict[str, Any]]:
    """Every row, `filed` after each, so that a run that is cut off leaves what it measured."""
    programs, done = compile_all(rows, rates, arch, threads), []
    for row in rows:
        try:
            done.append(one(row, programs.pop(row.name), rates, profile))
        except Exception as error:  # one row must not cost the others their numbers; it is reported as it is
            traceback.print_exc()
            done.append({"name": row.name, "op": row.op, "failed": short(error)})
        filed(done)
        gc.collect()
    return done
