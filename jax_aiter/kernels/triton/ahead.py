"""Builds plans of Triton kernels ahead of time."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from jax_aiter.kernels.ahead import Kind, Outcome, build
from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton import client, plans
from jax_aiter.kernels.triton.adapters import adapters, composition_of
from jax_aiter.kernels.triton.provider import chosen


def build_all(specs: Iterable[CallSpec], jobs: int, done: Callable[[Outcome], None]) -> list[Outcome]:
    """Record and compile every call that is not cached, with the tile that it takes; `jobs`, `done` as in `ahead.build`."""
    wanted = []
    for spec in specs:
        composition = composition_of(spec)
        parts = () if composition is None or composition.refuse(spec) else composition.parts(spec).values()
        wanted += [part if _refusal(part) else chosen(part)[0] for part in parts or (spec,)]
    return build_tiles(wanted, jobs, done)


def build_tiles(specs: Iterable[CallSpec], jobs: int, done: Callable[[Outcome], None]) -> list[Outcome]:
    """As `build_all`, with the tiles that the calls name."""
    return build(KIND, specs, jobs, done)


def _refusal(spec: CallSpec) -> str | None:
    adapter = adapters().get(spec.op)
    return f"AITER has no Triton kernel for {spec.op}" if adapter is None else adapter.refuse(spec)


KIND = Kind(
    plans=plans.PLANS,
    refuse=_refusal,
    key=lambda spec: spec.arch,
    start=lambda spec, where, root: client.Worker(spec.arch, where, root),
)
