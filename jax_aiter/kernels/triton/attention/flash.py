"""Attention over dense or packed sequences, forward and backward."""

# pyright: reportMissingImports=false
# AITER, torch and Triton are the worker's; recording functions import them when they run.
from __future__ import annotations

import copy

from jax_aiter.kernels.spec import CallSpec
from jax_aiter.kernels.triton.adapters import op
from jax_aiter.kernels.triton.attention import flash_one_pass, flash_own, flash_tiles
from jax_aiter.kernels.triton.attention.flash_own import chunk as _chunk
from jax_aiter.kernels.triton.rules import HALF, absent, dtype_in, first, fits_int32, param_is


def _refuse(spec: CallSpec) -> str | None:
    return first(
        *(_head_rule(name, spec[name].shape[-1]) for name in ("q", "v")),
        absent(spec, "bias"),
        param_is(spec, "logits_soft_cap", 0.0, None),
        _chunk_rule(spec),
        *(dtype_in(spec, name, HALF) for name in ("q", "k", "v")),
        *(dtype_in(spec, name, ("int32",)) for name in ("cu_seqlens_q", "cu_seqlens_k")),
        _window_rule(spec),
        _sequences_rule(spec),
    )


def _head_rule(name: str, head: int) -> str | None:
    if head % 8 or head > 256:
        return f"{name} has head size {head}; AITER's Triton kernel pads others in torch: it must be a multiple of 8, at most 256"
    return None


def _window_rule(spec: CallSpec) -> str | None:
    left, right = spec.params["sliding_window"]
    if left == 0 or (right >= 0 and not spec.params["causal"]):
        return f"sliding_window = {(left, right)}; AITER's Triton kernel bounds the left only, by at least 1"
    return None


def _chunk_rule(spec: CallSpec) -> str | None:
    chunk = _chunk(spec)
    if not chunk:
        return None
    if not spec.has("cu_seqlens_q") and spec["q"].shape[1] > spec["k"].shape[1]:
        return f"attention_chunk_size = {chunk} with more queries than keys; some would be in no chunk"
    if spec.params.get("alibi_per_sequence"):
        return f"attention_chunk_size = {chunk} with alibi_slopes [B, Hq]; chunks are AITER's sequences: they must be [Hq]"
    return None


def _sequences_rule(spec: CallSpec) -> str | None:
    """A launch of no program would leave the results unwritten."""
    if spec.has("cu_seqlens_q") and spec["cu_seqlens_q"].shape == (1,):
        return "cu_seqlens_q has 1 element, so there is no sequence; there is nothing to launch"
    return None


#: forward kernels look at the window since the backward ones do (0.1.12); before, they have the parameter all the same.
WINDOW = "attention.mha_onekernel_bwd:flash_attn_onekernel_backward(sliding_window)"


def _needs(spec: CallSpec) -> tuple[str, ...]:
    sinks = "attention.mha:_flash_attn_forward(sink)" if spec.has("sinks") else "attention.mha:_flash_attn_forward"
    return (sinks, *((WINDOW,) if _left(spec) > 0 else ()))


def _needs_backward(spec: CallSpec) -> tuple[str, ...]:
    return (WINDOW if _left(spec) > 0 else "attention.mha_onekernel_bwd:flash_attn_onekernel_backward",)


def _left(spec: CallSpec) -> int:
    return spec.params["sliding_window"][0]


def _per_batch(slopes, batch: int):
    """ALiBi slopes as AITER indexes them: [B, Hq]."""
    return slopes if slopes is None or slopes.dim() == 2 else slopes[None].expand(batch, -1)


def _sizes(ctx, kernel) -> tuple[int, int]:
    """Head sizes that a kernel is given: of q and k, and of v.

    Zeros at the end of a head change no score and give columns of zeros. Newer kernels take what q and k have beyond v as a part of
    its own, which saves the product with zeros, where both parts are powers of two.
    """
    head, value = ctx.operand("q").shape[-1], ctx.operand("v").shape[-1]
    extra = head - value
    apart = any(name in kernel.arg_names for name in ("BLOCK_DMODEL_PE", "PE_HEAD_DIM"))
    if apart and extra >= 16 and value >= 16 and not (extra & (extra - 1) or value & (value - 1)):
        return head, value
    return (max(head, value),) * 2


def _first_seen(ctx) -> int:
    """The first key that any query of a dense call sees through its window."""
    left, queries, keys = _left(ctx.spec), ctx.operand("q").shape[1], ctx.operand("k").shape[1]
    return 0 if left < 0 else min(max(keys - queries - left, 0), keys - 1)


def _seen_keys(ctx, keys, bounds_q, bounds_k):
    """Packed k and v, behind a window copies with zeros where no query sees them: a kernel's tile of keys starts before it does."""
    from jax_aiter.kernels.triton.worker.own import glue

    keys = list(keys)
    if _left(ctx.spec) < 0:
        return keys
    return [glue.seen_keys(x, bounds_q, bounds_k, _left(ctx.spec)) for x in keys]


def _forward(ctx, query, keys, batch: int, **lengths):
    import torch
    from aiter.ops.triton.attention import mha

    from jax_aiter.kernels.triton.worker import altered
    from jax_aiter.kernels.triton.worker.own import glue_widths

    # Every row of dense queries is written by its program: what the wrapper clears first would be a pass over the output.
    clear = torch.zeros if "cu_seqlens_q" in lengths else torch.empty
    with altered.members(torch, zeros=clear), altered.members(mha, **_choices(ctx, mha)):
        out, lse, *_ = mha._flash_attn_forward(
            query,
            *keys,
            dropout_p=0.0,
            softmax_scale=ctx.spec.params["scale"],
            causal=ctx.spec.params["causal"],
            window_size_left=_left(ctx.spec),
            window_size_right=-1,
            bias=None,
            alibi_slopes=_per_batch(ctx.operand("alibi_slopes"), batch),
            return_lse=True,
            return_softmax=False,
            **({"sink": ctx.operand("sinks")} if ctx.spec.has("sinks") else {}),
            **lengths,
        )
    value = ctx.results[0].shape[-1]
    if out.shape[-1] != value:
        out = glue_widths.resize(out, value, ctx.results[0].view(*out.shape[:-1], value))
    return out.view(ctx.results[0].shape), lse


def _choices(ctx, mha) -> dict:
    """What the forward wrapper's module chooses with, for the call."""
    from aiter.ops.triton._triton_kernels.attention.mha import _attn_fwd

    from jax_aiter.kernels.triton.worker.own import glue_order

    choose = mha._get_config

    def configuration(*of, **by):
        config = ctx.tiled({"KERNEL": "aiter", **choose(*of, **by)})
        return _without_kernel(config)

    found = {"_get_config": configuration}
    if not _hopper(ctx.spec):
        return found
    ordered = glue_order.order(_attn_fwd)  # of any call, so that the kernel is hashed with it
    return {
        **found,
        **(ordered if ctx.spec.params["causal"] else {}),
        "_USE_INT64_STRIDES": fits_int32(ctx.spec, *"qkv") is not None,
    }


def _hopper(spec: CallSpec) -> bool:
    """Its threads have 255 registers for everything: strides of 64 bits make the kernels spill."""
    return spec.arch.startswith("sm_")


def _chunks(ctx) -> tuple[tuple, dict[str, int]]:
    """Where the chunks of dense sequences begin, as packed sequences of their own, and the longest of queries and of keys."""
    from jax_aiter.kernels.triton.worker.own import glue_chunks

    (batch, queries), keys, chunk = ctx.operand("q").shape[:2], ctx.operand("k").shape[1], _chunk(ctx.spec)
    bounds = glue_chunks.dense_bounds(batch, queries, keys, chunk, ctx.operand("q").device)
    return bounds, {"max_seqlen_q": min(queries, chunk), "max_seqlen_k": chunk}


def _chunked(ctx, q, keys):
    from jax_aiter.kernels.triton.worker.own import glue

    bounds, lengths = _chunks(ctx)
    keys = _seen_keys(ctx, [x.flatten(0, 1) for x in keys], *bounds)
    names = dict(zip(("cu_seqlens_q", "cu_seqlens_k"), bounds, strict=True))
    out, lse = _forward(ctx, q.flatten(0, 1), keys, bounds[0].shape[0] - 1, **names, **lengths)
    return out, glue.transpose(lse.view(*q.shape[:2], q.shape[2]), ctx.results[1])


def _padded(ctx):
    """q, k and v with the head sizes that the forward kernel takes."""
    from aiter.ops.triton.attention.mha import _attn_fwd

    from jax_aiter.kernels.triton.worker.own import glue_widths

    head, value = _sizes(ctx, _attn_fwd)
    return [glue_widths.resize(ctx.operand(name), size) for name, size in (("q", head), ("k", head), ("v", value))]


FORWARD = "aiter.ops.triton.attention.mha._flash_attn_forward, or jax_aiter.kernels.triton.worker.own.flash.forward.attend"


@op("flash_attention", source=FORWARD, refuse=_refuse, needs=_needs, space=flash_tiles.forward)
def flash_attention(ctx):
    if flash_own.takes(ctx.spec):
        return flash_own.record(ctx)
    from jax_aiter.kernels.triton.worker.own import glue

    (q, *keys), first = _padded(ctx), _first_seen(ctx)
    if _chunk(ctx.spec):
        return _chunked(ctx, q, keys)
    keys = [x[:, first:] for x in keys]
    out, lse = _forward(ctx, q, keys, q.shape[0], max_seqlen_q=q.shape[1], max_seqlen_k=keys[0].shape[1])
    keyless = q.shape[1] - keys[0].shape[1]
    if _asks_lse(ctx) and ctx.spec.params["causal"] and keyless > 0:
        glue.keyless_first(lse, keyless)
    return out, lse


def _packed(ctx) -> tuple[tuple, dict[str, int]]:
    """The bounds of packed sequences, or of their chunks, and the longest of queries and of keys."""
    from jax_aiter.kernels.triton.worker.own import glue_chunks

    bounds: tuple = (ctx.operand("cu_seqlens_q"), ctx.operand("cu_seqlens_k"))
    lengths, chunk = _longest(ctx), _chunk(ctx.spec)
    if chunk and chunk < lengths["max_seqlen_k"]:
        bounds = tuple(glue_chunks.packed_bounds(bounds[0], bounds[1], lengths["max_seqlen_q"], lengths["max_seqlen_k"], chunk))
        lengths["max_seqlen_k"] = chunk
    return bounds, lengths


def _asks_lse(ctx) -> bool:
    """AITER's kernels write 0 for queries without keys, which the backward ones want so: they subtract before they mask."""
    return bool(ctx.spec.params.get("return_lse"))


def _longest(ctx) -> dict[str, int]:
    """The caller's bounds, by which the kernels' grids are sized; no sequence is longer than all of them."""
    sizes = {"max_seqlen_q": ctx.operand("q").shape[0], "max_seqlen_k": ctx.operand("k").shape[0]}
    return {name: max(1, min(ctx.spec.params[name], size)) for name, size in sizes.items()}


@op("flash_attention_varlen", source=FORWARD, refuse=_refuse, needs=_needs, space=flash_tiles.forward)
def flash_attention_varlen(ctx):
    if flash_own.takes(ctx.spec):
        return flash_own.record(ctx)
    from aiter.ops.triton.attention import mha

    from jax_aiter.kernels.triton.worker.own import glue, glue_lse

    bounds, lengths = _packed(ctx)
    q, *keys = _padded(ctx)
    names = dict(zip(("cu_seqlens_q", "cu_seqlens_k"), bounds, strict=True))
    arguments = (ctx, q, _seen_keys(ctx, keys, *bounds), bounds[0].shape[0] - 1)
    if ctx.spec.params["causal"]:
        with glue_lse.spaced(mha) as found:
            out, _ = _forward(*arguments, **names, **lengths)
        return out, glue_lse.close(found, bounds[0], bounds[1], infinite=_asks_lse(ctx), lse=ctx.results[1])
    out, lse = _forward(*arguments, **names, **lengths)
    lse = glue.transpose(lse, ctx.results[1])
    if _asks_lse(ctx):
        glue.keyless_packed(lse, *bounds)
    return out, lse


BACKWARD = "aiter.ops.triton.attention.mha_onekernel_bwd.flash_attn_onekernel_backward"


def _refuse_backward(spec: CallSpec) -> str | None:
    return first(absent(spec, "dlse"), _refuse(spec), fits_int32(spec, "q", "k", "v"))


class _Padded:
    """Operands and gradients of the backward pass with the head sizes that its kernels take."""

    def __init__(self, ctx):
        from aiter.ops.triton.attention import mha_onekernel_bwd as module

        from jax_aiter.kernels.triton.worker.own import glue_widths

        causal = ctx.spec.params["causal"]
        head, value = _sizes(ctx, module.bwd_kernel_causal if causal else module.bwd_kernel_noncausal)
        sizes = {"q": head, "k": head, "v": value, "out": value, "dout": value}
        self.resize, self.results = glue_widths.resize, ctx.results[:3]
        self.q, self.k, self.v, self.out, self.dout = (glue_widths.resize(ctx.operand(n), size) for n, size in sizes.items())
        wide = zip(self.results, (head, head, value), strict=True)
        self.gradients = [x if x.shape[-1] == size else x.new_empty((*x.shape[:-1], size)) for x, size in wide]
        self.dq = self.gradients[0]

    def packed(self) -> _Padded:
        """The same, its operands and dq as those of packed sequences."""
        view = copy.copy(self)
        view.q, view.out, view.dout = (x.flatten(0, 1) for x in (self.q, self.out, self.dout))
        view.dq = self.dq.flatten(0, 1)
        return view

    def store(self) -> None:
        for padded, result in zip(self.gradients, self.results, strict=True):
            if padded is not result:
                self.resize(padded, result.shape[-1], result)


@op("flash_attention_bwd", source=BACKWARD, refuse=_refuse_backward, needs=_needs_backward, space=flash_tiles.backward)
def flash_attention_bwd(ctx):
    if flash_one_pass.taken(ctx.spec):
        return flash_one_pass.backward(ctx)  # the fourth result, the bias gradient, is empty: there is no bias
    x, first = _Padded(ctx), _first_seen(ctx)
    if _chunk(ctx.spec):
        return _chunked_backward(ctx, x)
    if first:
        for gradient in x.gradients[1:]:
            gradient.zero_()  # the kernel is not told of keys that no query sees
    keys, grads = ([y[:, first:] for y in pair] for pair in ((x.k, x.v), x.gradients[1:]))
    lengths = {"max_seqlen_q": x.q.shape[1], "max_seqlen_k": keys[0].shape[1]}
    _backward(ctx, x, keys, grads, ctx.operand("lse"), x.q.shape[0], None, None, **lengths)
    return ctx.results


def _chunked_backward(ctx, x: _Padded):
    from jax_aiter.kernels.triton.worker.own import glue

    bounds, lengths = _chunks(ctx)
    for gradient in x.gradients[1:]:
        gradient.zero_()
    lse = ctx.operand("lse").new_empty((*x.q.shape[:2], x.q.shape[2]))
    glue.transpose(ctx.operand("lse"), lse)
    keys = _seen_keys(ctx, [y.flatten(0, 1) for y in (x.k, x.v)], *bounds)
    gradients, batch = [y.flatten(0, 1) for y in x.gradients[1:]], bounds[0].shape[0] - 1
    _backward(ctx, x.packed(), keys, gradients, lse.flatten(0, 1), batch, *bounds, **lengths)
    return ctx.results


@op("flash_attention_varlen_bwd", source=BACKWARD, refuse=_refuse_backward, needs=_needs_backward, space=flash_tiles.backward)
def flash_attention_varlen_bwd(ctx):
    x, (bounds, lengths) = _Padded(ctx), _packed(ctx)
    for gradient in x.gradients:
        gradient.zero_()  # tokens past the last sequence are written by no program
    keys, batch = _seen_keys(ctx, (x.k, x.v), *bounds), bounds[0].shape[0] - 1
    _backward(ctx, x, keys, x.gradients[1:], ctx.operand("lse").T, batch, *bounds, **lengths)
    return ctx.results


def _backward(ctx, x: _Padded, keys, gradients, lse, batch: int, cu_seqlens_q, cu_seqlens_k, **lengths: int) -> None:
    from aiter.ops.triton.attention import mha_onekernel_bwd as module

    from jax_aiter.kernels.triton.worker import altered

    dq, choose = x.dq, module._get_config
    if cu_seqlens_q is not None or dq.shape[1] > keys[0].shape[1]:
        dq.zero_()  # nothing is written for queries of no sequence, nor for blocks of those without a key
    with altered.members(module, _get_config=lambda: _backward_config(ctx, choose())):
        module.flash_attn_onekernel_backward(
            x.dout,
            x.q,
            *keys,
            x.out,
            lse,
            dq,
            *gradients,
            None,
            ctx.spec.params["scale"],
            _per_batch(ctx.operand("alibi_slopes"), batch),
            ctx.spec.params["causal"],
            cu_seqlens_q,
            cu_seqlens_k,
            **lengths,
            dropout_p=0.0,
            USE_INT64_STRIDES=not _hopper(ctx.spec),  # `_refuse_backward`: all offsets fit 32 bits
            **({"sliding_window": _left(ctx.spec)} if _left(ctx.spec) > 0 else {}),
        )
    x.store()


def _backward_config(ctx, config: dict) -> dict:
    """AITER's, by kernel: whichever of the two forms of the one kernel the call takes has the tile."""
    return {
        name: _without_kernel(ctx.tiled({"KERNEL": "aiter", **own})) if name.startswith("onekernel") else own
        for name, own in config.items()
    }


def _without_kernel(config: dict) -> dict:
    return {name: value for name, value in config.items() if name != "KERNEL"}
