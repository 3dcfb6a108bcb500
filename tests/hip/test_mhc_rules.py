"""What AITER's HIP kernels of hyper-connections are not asked, and how the product in front of a layer is cut into parts."""

import pytest

from jax_aiter.kernels.hip.adapters import adapter
from jax_aiter.kernels.hip.mhc.fused import cut
from jax_aiter.kernels.hip.mhc.mhc import parts
from jax_aiter.kernels.spec import ArraySpec, CallSpec


def pre(streams=4, width=512, dtype="bfloat16", weight=None, arch="gfx942"):
    rows = 2 * streams + streams * streams
    operands = {"residual": ArraySpec((3, streams, width), dtype), "fn": ArraySpec((rows, streams * width), "float32")}
    operands |= {"hc_scale": ArraySpec((3,), "float32"), "hc_base": ArraySpec((rows,), "float32")}
    operands |= {"norm_weight": ArraySpec((width,), weight)} if weight else {}
    return CallSpec("mhc_pre", arch, operands, {}, (ArraySpec((3, width), dtype),))


def post(streams=4, width=1024, dtype="bfloat16", arch="gfx942"):
    shapes = {"x": (3, width), "residual": (3, streams, width)}
    operands = {name: ArraySpec(shape, dtype) for name, shape in shapes.items()}
    operands |= {"post_layer_mix": ArraySpec((3, streams), "float32"), "comb_res_mix": ArraySpec((3, streams, streams), "float32")}
    return CallSpec("mhc_post", arch, operands, {}, (operands["residual"],))


def both(tokens=3, streams=4, width=512, dtype="bfloat16", weight=None, arch="gfx942", x=None, repeat=20):
    rows = 2 * streams + streams * streams
    operands = {"layer_input": ArraySpec((tokens, width), x or dtype), "residual_in": ArraySpec((tokens, streams, width), dtype)}
    operands |= {"post_layer_mix": ArraySpec((tokens, streams), "float32")}
    operands |= {"comb_res_mix": ArraySpec((tokens, streams, streams), "float32")}
    operands |= {"fn": ArraySpec((rows, streams * width), "float32"), "hc_scale": ArraySpec((3,), "float32")}
    operands |= {"hc_base": ArraySpec((rows,), "float32")} | ({"norm_weight": ArraySpec((width,), weight)} if weight else {})
    results = ArraySpec((tokens, width), dtype), operands["residual_in"]
    return CallSpec("mhc_fused_post_pre", arch, operands, {"sinkhorn_repeat": repeat}, results)


@pytest.mark.parametrize(
    ("spec", "rule"),
    [
        (both(dtype="float32"), "residual_in has dtype float32"),
        (both(streams=2), "residual_in has 2 streams; AITER's HIP kernel takes 4"),
        (both(width=384), "residual_in has streams of 384; AITER's HIP kernel takes multiples of 256"),
        (both(weight="bfloat16"), "norm_weight with streams of 512"),
        (both(x="float16"), "layer_input has dtype float16"),
        (both(tokens=128), "residual_in has streams of 512; AITER's HIP kernel reads blocks of 512, two at least"),
        (both(repeat=0), "residual_in has streams of 512; AITER's HIP kernel reads blocks of 512, two at least"),
        (pre(dtype="float32"), "residual has dtype float32"),
        (pre(streams=2), "residual has 2 streams; AITER's HIP kernel takes 4"),
        (pre(width=384), "streams of 384; AITER's HIP kernel takes multiples of 256"),
        (pre(width=256), "streams of 256; AITER's HIP kernel reads blocks of 256, two at least"),
        (pre(weight="bfloat16"), "norm_weight with streams of 512"),
        (pre(width=1280, weight="float32"), "norm_weight has dtype float32"),
        (post(dtype="float32"), "residual has dtype float32"),
        (post(streams=8), "residual has 8 streams"),
        (post(width=512), "streams of 512; AITER's HIP kernel reads blocks of 512, two at least"),
        (post(arch="gfx950"), "streams of 1024; AITER's HIP kernel reads blocks of 1024, two at least"),
    ],
)
def test_a_rule_names_the_argument_and_its_value(spec, rule):
    assert rule in adapter(spec.op).refuse(spec)


@pytest.mark.parametrize(
    "spec",
    [
        both(),
        both(tokens=127),
        both(tokens=1023, arch="gfx950"),
        both(tokens=128, width=768),
        pre(),
        pre(width=7168, weight="bfloat16"),
        post(),
        post(width=768),
        post(dtype="float16"),
    ],
)
def test_what_the_kernels_take_no_rule_refuses(spec):
    assert adapter(spec.op).refuse(spec) is None


@pytest.mark.parametrize("units", [80, 256, 304])
@pytest.mark.parametrize("tokens", [1, 65, 4096, 100000])
@pytest.mark.parametrize("columns", [2048, 3072, 5120, 28672])
def test_parts_are_whole_and_two_tiles_at_least(tokens, columns, units):
    count, tile = parts(tokens, columns, units)
    assert tile in (64, 128)
    assert columns % (count * tile) == 0
    assert columns // count >= 2 * tile


def test_parts_are_those_of_aiters_own_choice():
    """What its function gives for these sizes."""
    sizes = [(3, 2048, 304), (193, 28672, 304), (4096, 16384, 256), (1, 3072, 256)]
    assert [parts(*size) for size in sizes] == [(8, 128), (112, 128), (8, 128), (12, 128)]


@pytest.mark.parametrize(("arch", "units"), [("gfx942", 80), ("gfx942", 304), ("gfx950", 256)])
@pytest.mark.parametrize("width", [512, 1280, 4096, 7168])
@pytest.mark.parametrize("tokens", [1, 17, 127, 1023])
def test_the_fused_product_is_cut_into_whole_tiles_two_at_least(arch, units, width, tokens):
    """And by tiles that AITER's kernel has: 64 rows only with 32 columns at a time."""
    found = cut(tokens, width, arch, units)
    count, tile = found["parts"], found["tile_k"]
    assert width % (count * tile) == 0
    assert width // count >= 2 * tile
    assert (found["tile_m"], found["tile_n"], tile) in {(m, n, k) for m in (16, 32) for n in (16, 32) for k in (32, 64)}
