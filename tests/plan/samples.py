"""Plans for the tests: small ones with a known effect, and hypothesis strategies for arbitrary valid ones."""

import math

import jax
import jax.numpy as jnp
from hypothesis import strategies as st

from jax_aiter.kernels.args import KernelArgs, Pointer, Raw, Scalar
from jax_aiter.kernels.builder import PlanBuilder
from jax_aiter.kernels.call import call_plan
from jax_aiter.kernels.mock_driver import code_object
from jax_aiter.kernels.plan import Address, Buffer, CodeObject, Copy, Fill, Launch, LaunchPlan
from jax_aiter.kernels.plan.steps import BUFFER_KINDS

COPY = "mock_copy_u32"
ADD = "mock_add_u32"


def u32(*shape: int) -> jax.Array:
    """0, 1, 2, ..."""
    return jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(shape)


def add_constant_plan(n: int, constant: int, *, op: str = "add_constant", filler: bytes = b"") -> LaunchPlan:
    """out = x + constant over n u32: fills a scratch buffer, adds it, and needs both to be in the right place."""
    b = PlanBuilder(op, "mock")
    x = b.operand(4 * n, 4, "x")
    out = b.result(4 * n, 4, "out")
    tmp = b.scratch(4 * n, 4, "constants")
    b.fill(tmp, constant, width=4)
    args = [Pointer(out), Pointer(x), Pointer(tmp), Scalar("u32", n)]
    b.launch(code_object(ADD, COPY, filler=filler), ADD, [n, 2], [64], 96, args)
    return b.build()


def call_add_constant(plan: LaunchPlan, x: jax.Array) -> jax.Array:
    return call_plan(plan, x, result_shape_dtypes=[jax.ShapeDtypeStruct(x.shape, jnp.uint32)])[0]


_names = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=12)
_dims = st.tuples(*[st.integers(1, 8)] * 3)
_scalars = st.one_of(
    st.builds(Scalar, st.just("i32"), st.integers(-(2**31), 2**31 - 1)),
    st.builds(Scalar, st.just("u8"), st.integers(0, 255)),
    st.builds(Scalar, st.just("i64"), st.integers(-(2**63), 2**63 - 1)),
    st.builds(Scalar, st.sampled_from(["fp16", "bf16", "fp32", "fp64"]), st.floats(-100, 100)),
    st.builds(Raw, st.binary(min_size=1, max_size=20), st.sampled_from([1, 4, 16])),
)


@st.composite
def plans(draw) -> LaunchPlan:
    """Any valid plan of moderate size, its buffers in any order of kinds."""
    counts = dict.fromkeys(BUFFER_KINDS, 0)
    buffers = []
    for kind in draw(st.lists(st.sampled_from(BUFFER_KINDS), min_size=1, max_size=8)):
        nbytes = draw(st.one_of(st.integers(0, 300), st.integers(0, 2**40)))
        buffers.append(Buffer(kind, counts[kind], nbytes, 1 << draw(st.integers(0, 12)), draw(_names | st.just(""))))
        counts[kind] += 1
    codes = draw(st.lists(st.binary(min_size=1, max_size=400).map(CodeObject), min_size=1, max_size=3))

    def place(multiple: int = 1) -> tuple[int, int, int]:
        buffer = draw(st.integers(0, len(buffers) - 1))
        size = buffers[buffer].nbytes // multiple
        offset = draw(st.integers(0, size))
        return buffer, offset * multiple, draw(st.integers(0, size - offset)) * multiple

    def launch() -> Launch:
        pointers = st.builds(lambda _: Pointer(*place()[:2]), st.none())
        args = draw(st.lists(_scalars | pointers, max_size=8))
        packed = KernelArgs.pack(args, slot=draw(st.sampled_from([None, 16, 32])))
        return Launch(draw(st.sampled_from(codes)), draw(_names), draw(_dims), draw(_dims), draw(st.integers(0, 2**20)), packed)

    def fill() -> Fill:
        width = draw(st.sampled_from([1, 2, 4]))
        return Fill(*place(width), draw(st.integers(0, 2 ** (8 * width) - 1)), width)

    def copy() -> Copy:
        (dst, dst_offset, a), (src, src_offset, b) = place(), place()
        nbytes = min(a, b) if dst != src else min(a, b, abs(dst_offset - src_offset))
        return Copy(dst, dst_offset, src, src_offset, nbytes)

    def address() -> Address | Fill:
        roomy = [i for i, b in enumerate(buffers) if b.nbytes >= 8]
        if not roomy:
            return fill()
        buffer = draw(st.sampled_from(roomy))
        return Address(buffer, 8 * draw(st.integers(0, buffers[buffer].nbytes // 8 - 1)), *place()[:2])

    steps = tuple(draw(st.sampled_from([launch, fill, copy, address]))() for _ in range(draw(st.integers(0, 6))))
    return LaunchPlan(draw(_names), draw(st.sampled_from(["gfx942", "gfx950", "sm_90", "mock"])), tuple(buffers), steps)
