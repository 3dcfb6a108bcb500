"""Whether and how the tiles of a call that is tuned are searched."""

import dataclasses

import jax

from jax_aiter.bind import select
from jax_aiter.cli.tile_times import Bench
from jax_aiter.cli.tune_calls import TuneCall
from jax_aiter.cli.tune_tiles import Searching
from jax_aiter.kernels.plan import LaunchPlan
from jax_aiter.kernels.provider import Call
from jax_aiter.kernels.spec import CallSpec, Tile
from jax_aiter.kernels.triton.adapters import adapters
from jax_aiter.kernels.triton.provider import plan_for
from jax_aiter.kernels.triton.tiles.choose import known
from jax_aiter.kernels.triton.tiles.search import Search


def searching_of(item: TuneCall, call: Call) -> Searching | None:
    """The search for the tiles of a call that Triton's kernels can run, None where there is nothing to choose."""
    adapter = adapters().get(call.op)
    if not item.search or adapter is None or adapter.space is None or select.refusals(call).get("triton", "") is not None:
        return None
    spec = CallSpec.of(call)
    space = adapter.space(spec)
    starts = [tile for tile, _ in known(spec, space) if tile]

    def plan_of(tile: Tile) -> LaunchPlan:
        return plan_for(dataclasses.replace(spec, tile=tile))

    def reference(**operands: jax.Array):
        return jax.jit(lambda operands: item.op(**operands, **item.case.params, implementation="xla"))(operands)

    return Searching(spec, space, item.draw, Bench(spec, plan_of, reference), Search(space, starts[:NEAR]))


#: tiles that are known of like calls, the nearest first, with which a search begins.
NEAR = 4
