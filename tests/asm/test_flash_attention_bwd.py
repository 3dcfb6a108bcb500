"""Gradients of flash_attention and flash_attention_varlen on AITER's hand-written backward kernels against float64.

Tolerance: probabilities and their gradients are rounded to 16 bits (relative error u to nearest, 2u toward zero) before they are
multiplied, with exact products in float32; each query head's result is rounded, then the sum of those that share a key head.
With M the sum of the absolute values of an element's terms that is 3u M, or 6u M toward zero. Where dq is accumulated in 16 bits
every tile of keys rounds the sum once more: u M each.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter import NotSupportedError
from jax_aiter.bind.op import Op
from jax_aiter.bind.select import make_call
from jax_aiter.kernels.asm.attention import flash
from jax_aiter.kernels.asm.attention.flash_bwd_select import TABLES, choose, overruns
from jax_aiter.kernels.asm.tables import Kernel
from jax_aiter.ops.attention.flash_attention_bwd import FLASH_ATTENTION_BWD
from jax_aiter.ops.attention.flash_attention_varlen_bwd import FLASH_ATTENTION_VARLEN_BWD

from . import attention, common

LENGTHS = [1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 191, 192, 193, 255, 256, 257]
PLAIN = {"alibi_slopes": None, "logits_soft_cap": 0.0, "alibi_per_sequence": False, "implementation": "asm"}


def compare(got, expected, dtype: str, kernel: str, sk: int):
    # gfx942's float16 kernels, which gfx950 partly shares, convert with v_cvt_pkrtz_f16_f32: toward zero.
    unit = attention.UNIT[dtype] * (2 if "rtz" in kernel or dtype == "float16" else 1)
    tiles = -(-sk // 64) if "a32" not in kernel else 0
    # Below float16's normal range what is rounded is absolute: 2^-25 of each of up to a thousand terms of about 1.
    floor = 2.0**-15 if dtype == "float16" else 0.0
    for name, x, e in zip(("dq", "dk", "dv"), got, expected, strict=False):
        attention.assert_within(x, e, 3 + (tiles if name == "dq" else 0), unit, name, floor)


def helpers(op: Op, operands, params) -> list[Kernel]:
    """The kernels before and after the main one."""
    avals = {n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in operands.items()}
    static = {n: v for n, v in params.items() if n not in ("implementation", "kernel", "alibi_slopes", "bias")}
    call = make_call(op, "rocm", None, avals, static, op.infer(avals, static), params["kernel"])
    steps = choose(call, flash.shape_of(call))
    return [steps.odo, *([steps.post] if steps.post else [])]


def check(b, sq, sk, hq, hk, heads, *, causal=False, window=(-1, -1), dtype="bfloat16", seed=0, kernel=None):
    rng = np.random.default_rng(seed)
    q, k = (attention.draw(rng, b, s, h, heads[0], dtype=dtype) for s, h in ((sq, hq), (sk, hk)))
    v, dout = (attention.draw(rng, b, s, h, heads[1], dtype=dtype) for s, h in ((sk, hk), (sq, hq)))
    scale, mask = heads[0] ** -0.5, attention.visible(sq, sk, causal, window)
    forward = [attention.forward(q[i], k[i], v[i], scale, mask) for i in range(b)]
    out = np.stack([f[0].value for f in forward]).astype(q.dtype)
    lse = np.stack([f[1] for f in forward]).astype(np.float32)
    options = {**PLAIN, "scale": scale, "causal": causal, "sliding_window": window, "with_bias": False, "kernel": kernel}

    def call(q, k, v, dout, out, lse):
        return FLASH_ATTENTION_BWD(q=q, k=k, v=v, dout=dout, out=out, lse=lse, bias=None, **options)

    arrays = [jnp.asarray(x) for x in (q, k, v, dout, out, lse)]
    main = common.selected(call, *arrays)
    operands = {"dout": dout, "q": q, "k": k, "v": v, "out": out, "lse": lse}
    with common.running(call, *arrays, helpers=helpers(FLASH_ATTENTION_BWD, operands, options)) as got:
        each = [attention.backward(dout[i], q[i], k[i], v[i], out[i], scale, mask) for i in range(b)]
        expected = [attention.stack([e[n] for e in each]) for n in range(3)]
        compare(got, expected, dtype, main.symbol, sk)
        assert got[3].shape == (b, 0)


def check_packed(lengths_q, lengths_k, hq, hk, heads, *, causal=False, dtype="bfloat16", padding=5, seed=0, kernel=None):
    rng = np.random.default_rng(seed)
    cu_q, cu_k = (np.concatenate([[0], np.cumsum(x)]).astype(np.int32) for x in (lengths_q, lengths_k))
    tq, tk = cu_q[-1] + padding, cu_k[-1] + padding
    q, k = (attention.draw(rng, t, h, heads[0], dtype=dtype) for t, h in ((tq, hq), (tk, hk)))
    v, dout = (attention.draw(rng, t, h, heads[1], dtype=dtype) for t, h in ((tk, hk), (tq, hq)))
    out, lse = np.zeros(dout.shape, q.dtype), np.full((hq, tq), -np.inf, np.float32)
    scale, parts = heads[0] ** -0.5, []
    for i, (nq, nk) in enumerate(zip(lengths_q, lengths_k, strict=True)):
        rows, keys, mask = slice(cu_q[i], cu_q[i + 1]), slice(cu_k[i], cu_k[i + 1]), attention.visible(nq, nk, causal)
        result, lse[:, rows] = attention.forward(q[rows], k[keys], v[keys], scale, mask)
        out[rows] = result.value
        parts.append(attention.backward(dout[rows], q[rows], k[keys], v[keys], out[rows], scale, mask))
    for x, end in ((q, cu_q), (dout, cu_q), (k, cu_k), (v, cu_k)):
        x[end[-1] :] = np.nan
    options = {**PLAIN, "scale": scale, "causal": causal, "sliding_window": (-1, -1), "kernel": kernel}
    options |= {"max_seqlen_q": int(max(lengths_q)), "max_seqlen_k": int(max(lengths_k))}

    def call(q, k, v, dout, out, lse, cu_q, cu_k):
        operands = {"q": q, "k": k, "v": v, "dout": dout, "out": out, "lse": lse}
        return FLASH_ATTENTION_VARLEN_BWD(**operands, cu_seqlens_q=cu_q, cu_seqlens_k=cu_k, **options)

    arrays = [jnp.asarray(x) for x in (q, k, v, dout, out, lse, cu_q, cu_k)]
    main = common.selected(call, *arrays)
    operands = {"dout": dout, "q": q, "k": k, "v": v, "out": out, "lse": lse, "cu_seqlens_q": cu_q, "cu_seqlens_k": cu_k}
    with common.running(call, *arrays, helpers=helpers(FLASH_ATTENTION_VARLEN_BWD, operands, options)) as got:
        starts = (cu_q, cu_k, cu_k)
        expected = [attention.scatter(x.shape, s, [p[n] for p in parts]) for n, (x, s) in enumerate(zip(got, starts, strict=True))]
        compare(got, expected, dtype, main.symbol, max(lengths_k))


def equal(head: int) -> tuple[int, int]:
    return head, head


@pytest.mark.parametrize("length", LENGTHS)
def test_lengths(arch, length):
    """128 takes the kernels without padding where the length is a whole number of tiles, 104 the padding ones."""
    check(1, length, length, 2, 1, equal(128), causal=length % 2 == 0, seed=length)
    check(1 if arch == "gfx950" and length == 1 else 2, length, length, 1, 1, equal(104), causal=length % 2 == 1, seed=length)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("head", [64, 72, 128, 136, 192])
@pytest.mark.parametrize(("sq", "sk"), [(17, 40), (130, 65)])
def test_queries_and_keys_differ(sq, sk, head, causal):
    """Where there are more queries than keys the first ones see nothing: their log-sum-exp is -inf and they get no gradient."""
    check(1, sq, sk, 2, 2, equal(head), causal=causal, dtype="float16" if head == 72 else "bfloat16")


@pytest.mark.parametrize("group", [1, 4, 8])
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_groups_of_query_heads(batch, group):
    check(batch, 70, 90, 8, 8 // group, equal(128), causal=batch == 2)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("head", [64, 128, 104, 192])
def test_packed_sequences(arch, head, causal):
    if arch == "gfx950" and head == 64 and causal:
        check_packed([5, 0, 80], [7, 4, 100], 2, 1, equal(head), causal=causal, dtype="float16")
    check_packed([5, 0, 200, 17, 64], [7, 4, 180, 0, 230], 2, 1, equal(head), causal=causal)


@pytest.mark.parametrize(("sq", "sk"), [(100, 100), (100, 130), (130, 100)])
@pytest.mark.parametrize("window", [(10, 0), (10, 5), (-1, 5), (10, -1), (0, 0)])
def test_windows(arch, sq, sk, window):
    if arch != "gfx942":
        pytest.skip("gfx942 only")
    check(1, sq, sk, 2, 1, equal(128), window=window, causal=window == (10, 0))


def broken(row: Kernel) -> bool:
    """Whether the kernel is only for lengths of whole tiles."""
    shape = flash.Shape(False, 1, 130, 130, 1, 1, 128, 128, 130, 130)
    return overruns(row, shape)


def sweep(row: Kernel, seed: int) -> None:
    """One main kernel, with the operands that need it: lengths of whole tiles or ragged, heads narrower than it pads to."""
    heads = (row.number("hdim_q"), row.number("hdim_v"))
    if row["pddv"] and heads[0] == heads[1] != 64:
        heads = equal({128: 104, 192: 168}[heads[0]])
    causal = row["mask"] in (flash.TOP_LEFT, flash.CAUSAL)
    dtype = {"fp16": "float16", "bf16": "bfloat16"}[str(row["dtype"])]
    options = {"causal": causal, "dtype": dtype, "seed": seed, "kernel": row.symbol}
    if row["mode"]:
        check_packed([5, 0, 80, 17], [7, 4, 100, 0], 2, 1, heads, **options)
        return
    if row["pssk"]:
        sk = 100 if row["mask"] == flash.TOP_LEFT else 384 if broken(row) else 130
        check(2, 100, sk, 2, 1, heads, window=(20, -1) if row["mask"] == flash.WINDOW else (-1, -1), **options)
        return
    tile = row.number("ts") if row["atomic32"] else 64
    check(2, tile, tile, 2, 1, heads, **options)


def reachable(arch: str) -> list[Kernel]:
    """All main kernels but those for packed sequences with a diagonal from the top left: no op here has that."""
    rows = common.rows("flash_attention_bwd", arch, TABLES[1])
    return [r for r in rows if not (r["mode"] == 1 and r["mask"] == flash.TOP_LEFT)]


@pytest.mark.parametrize("part", range(4))
def test_main_kernels(arch, part):
    """A quarter of each part here, the rest below."""
    rows = reachable(arch)
    for seed, row in list(enumerate(rows))[part::16]:
        sweep(row, seed)


@pytest.mark.exhaustive
@pytest.mark.parametrize("part", range(4, 16))
def test_every_main_kernel(arch, part):
    rows = reachable(arch)
    for seed, row in list(enumerate(rows))[part::16]:
        sweep(row, seed)


@pytest.mark.parametrize(("sq", "sk", "symbol"), [(300, 300, "causal_a32_psskddv"), (100, 300, "br_a16"), (100, 384, "br_a32")])
def test_keys_that_a_kernel_would_overrun(arch, sq, sk, symbol):
    """gfx950's choice for causal heads of 128 stores past dk and dv unless Sk is a multiple of 128: another one takes its place."""
    if arch != "gfx950":
        pytest.skip("gfx950 only")
    common.needs_kernels(arch, TABLES)
    call = {"batch": 2, "sq": sq, "sk": sk, "causal": True}
    assert symbol in chosen(**call)
    check(2, sq, sk, 2, 1, equal(128), causal=True)


def test_one_query_per_sequence(arch):
    if arch == "gfx950":
        with pytest.raises(NotSupportedError, match="Sq = 1 in 3 sequences"):
            lower(batch=3, sq=1)
        check(1, 1, 70, 2, 1, equal(128))
    else:
        check(3, 1, 70, 2, 1, equal(128))


def numeric(causal):
    rng = np.random.default_rng(3)
    q, k, v = attention.draw(rng, 2, 150, 4, 128), attention.draw(rng, 2, 150, 2, 128), attention.draw(rng, 2, 150, 2, 128)
    weight = attention.draw(rng, 2, 150, 4, 128)
    mask = attention.visible(150, 150, causal)
    outs = [attention.forward(q[i], k[i], v[i], 128**-0.5, mask)[0] for i in range(2)]
    each = [attention.backward(weight[i], q[i], k[i], v[i], outs[i].value, 128**-0.5, mask, outs[i].magnitude) for i in range(2)]
    return (q, k, v, weight), [attention.stack([e[n] for e in each]) for n in range(3)]


@pytest.mark.parametrize("causal", [False, True])
def test_grad_through_flash_attention(causal):
    """Forward and backward on hand-written kernels in one program."""
    (q, k, v, weight), expected = numeric(causal)

    def loss(q, k, v):
        out = jax_aiter.flash_attention(q, k, v, causal=causal, implementation="asm")
        return jnp.sum(out.astype(jnp.float32) * jnp.asarray(weight).astype(jnp.float32))

    grad = jax.jit(jax.grad(loss, (0, 1, 2)))
    text = grad.lower(q, k, v).compile().as_text() or ""
    assert "fmha_fwd_hd128" in text
    assert "fmha_bwd_hd128" in text
    for name, got, e in zip(("dq", "dk", "dv"), grad(q, k, v), expected, strict=True):
        attention.assert_within(got, e, 3, attention.UNIT["bfloat16"], name)


def test_grad_through_flash_attention_varlen():
    (q, k, v, weight), expected = numeric(True)
    flat = [jnp.asarray(x.reshape(300, *x.shape[2:])) for x in (q, k, v, weight)]
    starts = jnp.array([0, 150, 300], jnp.int32)

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1, 2))
    def grad(q, k, v):
        out = jax_aiter.flash_attention_varlen(q, k, v, starts, starts, 150, 150, causal=True, implementation="asm")
        return jnp.sum(out.astype(jnp.float32) * flat[3].astype(jnp.float32))

    for name, got, e in zip(("dq", "dk", "dv"), grad(*flat[:3]), expected, strict=True):
        attention.assert_within(got.reshape(e.value.shape), e, 3, attention.UNIT["bfloat16"], name)


def one_call(*, heads=(128, 128), sq=40, sk=40, batch=1, count=2, dtype=jnp.bfloat16, **options):
    x = {n: jax.ShapeDtypeStruct((batch, s, count, d), dtype) for n, s, d in (("q", sq, heads[0]), ("k", sk, heads[0]))}
    x |= {n: jax.ShapeDtypeStruct((batch, s, count, heads[1]), dtype) for n, s in (("v", sk), ("dout", sq), ("out", sq))}
    x["lse"] = jax.ShapeDtypeStruct((batch, count, sq), jnp.float32)
    params = {**PLAIN, "scale": 0.1, "causal": False, "sliding_window": (-1, -1), "with_bias": False, "bias": None, **options}
    return lambda x: FLASH_ATTENTION_BWD(**x, **params), x


def lower(**call):
    function, operands = one_call(**call)
    jax.jit(function).lower(operands)


def chosen(**call) -> str:
    function, operands = one_call(**call)
    (found,) = jax_aiter.explain(function, operands)
    return found.details[0]


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"heads": (56, 56)}, r"head sizes \(D, Dv\) = \(56, 56\)"),
        ({"heads": (200, 200)}, r"head sizes \(D, Dv\) = \(200, 200\)"),
        ({"heads": (100, 100)}, r"head sizes \(D, Dv\) = \(100, 100\)"),
        ({"heads": (128, 64)}, r"head sizes \(D, Dv\) = \(128, 64\)"),
        ({"dtype": jnp.float32}, "q has dtype float32"),
        ({"logits_soft_cap": 2.0}, r"logits_soft_cap = 2\.0"),
        ({"heads": (192, 192), "sliding_window": (3, 3)}, r"sliding_window = \(3, 3\)"),
        ({"sq": 0}, "dout is empty"),
        ({"kernel": "bwd_hd128_fp16_a32_psskddv"}, "kernel = 'bwd_hd128_fp16_a32_psskddv'"),
        # Without padding: not for lengths that are not whole tiles, nor for the diagonal of unequal lengths.
        ({"kernel": "bwd_hd128_bf16_a32_rtna"}, "kernel = 'bwd_hd128_bf16_a32_rtna'"),
        ({"kernel": "bwd_hd128_bf16_causal_a32_rtna_psskddv", "causal": True, "sk": 50}, "kernel = "),
        ({"kernel": "bwd_hd128_bf16_causal_br_a32_psskddv", "causal": True, "sk": 300}, "kernel = "),
        ({"sq": 2**17, "sk": 2**17, "count": 128}, r"below 2\*\*31"),
        ({"sq": 2**15, "batch": 2**6, "count": 8}, r"below 2\*\*32"),
    ],
)
def test_refusals(options, rule):
    with pytest.raises(NotSupportedError, match=rule):
        lower(**options)
