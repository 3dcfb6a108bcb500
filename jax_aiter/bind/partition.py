"""Keeping a kernel call sharded under plain `jit`: XLA is told which axes split, and each device gets a call of its own size.

Without this, XLA gathers the operands of a custom call onto every device. The rule is the op's record: an axis in `parallel` may be
split, every other one is replicated first. This wraps the call at lowering time, when batching, differentiation and explicit
shardings are done with, since `custom_partitioning` handles none of them.
"""

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

from jax.sharding import NamedSharding, PartitionSpec

from jax_aiter.bind.sharding import is_parallel, placements
from jax_aiter.core.axes import axis_names
from jax_aiter.core.record import Record


def _names(op: Record, names, operands, results, params) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    args = op.operand_args(params)
    ins = [axis_names(args[n].axes, len(x.shape)) for n, x in zip(names, operands, strict=True)]
    outs = [axis_names(a, len(x.shape)) for a, x in zip(op.result_axes(params).values(), results, strict=True)]
    return ins, outs


def _rule(ins, outs, replicated: Callable[[str], bool]) -> Any:
    """The axes as a Shardy rule; a literal size gets a factor of its own, which nothing shares."""
    from jax.experimental.custom_partitioning import ArrayMapping, SdyShardingRule

    factors: dict[str, str] = {}

    def mapping(axes, place: int):
        out = []
        for i, axis in enumerate(axes):
            key = f"{axis}@{place}.{i}" if axis.isdigit() else axis
            factor = factors.setdefault(key, f"f{len(factors)}")
            out.append(factor)
        return ArrayMapping(*out)

    left = tuple(mapping(a, i) for i, a in enumerate(ins))
    right = tuple(mapping(a, len(left) + i) for i, a in enumerate(outs))
    need = tuple(factor for key, factor in factors.items() if replicated(key))
    return SdyShardingRule(left, right, need_replication_factors=need)


def partitioned(op: Record, names: tuple[str, ...], params: Mapping[str, Any], body: Callable[..., Any], operands, results):
    """`body` (a call of the op on any local size) as a function that XLA may split along the op's parallel axes."""
    ins, outs = _names(op, names, operands, results, params)

    def shardings(mesh, arg_infos):
        specs = [tuple(info.sharding.spec) for info in arg_infos]
        full = [spec + (None,) * (len(axes) - len(spec)) for axes, spec in zip(ins, specs, strict=True)]
        placed = placements(op.parallel, zip(ins, full, strict=True))

        def named(axes):
            return NamedSharding(mesh, PartitionSpec(*(placed.get(a) for a in axes)))

        return tuple(map(named, ins)), tuple(map(named, outs))

    def partition(mesh, arg_infos, result_infos):
        arg_shardings, out_shardings = shardings(mesh, arg_infos)
        return mesh, body, out_shardings, arg_shardings

    from jax.experimental.custom_partitioning import custom_partitioning  # slow to import, rarely needed

    call = custom_partitioning(body)
    call.def_partition(
        partition=partition,
        infer_sharding_from_operands=lambda mesh, arg_infos, result_infos: shardings(mesh, arg_infos)[1],
        sharding_rule=_rule(ins, outs, lambda key: not is_parallel(op.parallel, key)),
    )
    return call


def is_split(ctx: Any) -> bool:
    """XLA will split the program over several devices along some axis of their mesh, known or not: `shard_map` leaves it none."""
    context = ctx.module_context.axis_context
    if (mesh := getattr(context, "mesh", None)) is not None:
        return any(size > 1 for name, size in mesh.shape.items() if name not in context.manual_axes)
    return (getattr(context, "num_devices", None) or 1) > 1


def can_split(ctx: Any) -> bool:
    """The lowering is for a program that XLA itself will split: plain `jit` over several known devices, not inside `shard_map`."""
    context = ctx.module_context.axis_context
    devices = getattr(context, "device_assignment", None)
    return not getattr(context, "manual_axes", None) and devices is not None and len(devices) > 1


def gpu_plugin_installed() -> bool:
    """A JAX GPU plugin is installed; asked of the import system, so that no backend starts."""
    if importlib.util.find_spec("jax_plugins") is None:
        return False
    names = [module.name for module in pkgutil.iter_modules(importlib.import_module("jax_plugins").__path__)]
    return any("rocm" in name or "cuda" in name for name in names)


def ask_for_devices(primitive: Any) -> None:
    """Have JAX tell lowerings of this primitive which devices they are for, which `custom_partitioning` needs.

    Only where a GPU could run kernels: it costs the right to lower for an AbstractMesh without devices. Without it (another
    JAX, a machine without plugin) a kernel under plain `jit` over several devices is right but gathers its operands first.
    """
    from jax._src import dispatch

    known = getattr(dispatch, "prim_requires_devices_during_lowering", None)
    if known is not None and gpu_plugin_installed():
        known.add(primitive)
