"""rope against a float64 torch restatement of AITER's definition, Hugging Face's Llama rotation, and torch autograd.

Each output is two products and a sum in float32: 3 units of |x cos| + |x' sin|, then one rounding.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

import jax_aiter
from jax_aiter import rope, rope_positions
from jax_aiter.ops.rope import rotation
from tests.oracle import LOOPS, ROUNDOFF, assert_same, assert_within, draw, f64, primitives

UNITS = 3 * ROUNDOFF["float32"]


def table(positions, columns, seed=None):
    """Cosines and sines of the usual angles, or (seed) of unrelated ones per column."""
    if seed is None:
        angles = np.outer(np.arange(positions), 10000.0 ** (-np.arange(columns) / columns))
    else:
        angles = np.random.default_rng(seed).uniform(-3, 3, (positions, columns))
    return jnp.asarray(np.cos(angles), jnp.float32), jnp.asarray(np.sin(angles), jnp.float32)


def torch_rope(x, cos, sin, positions, style, reuse, nope_first):
    """x [..., H, D] float64; pair by pair, from the definition."""
    c, s = (torch.from_numpy(f64(t))[torch.tensor(np.asarray(positions)).long()].unsqueeze(-2) for t in (cos, sin))
    rotary = cos.shape[-1] * (2 if reuse else 1)
    start = x.shape[-1] - rotary if nope_first else 0
    columns = list(x.unbind(-1))
    for pair in range(rotary // 2):
        i, j = (pair, pair + rotary // 2) if style == "neox" else (2 * pair, 2 * pair + 1)
        ci, cj = (pair, pair) if reuse else (i, j)
        a, b = x[..., start + i], x[..., start + j]
        columns[start + i] = a * c[..., ci] - b * s[..., ci]
        columns[start + j] = b * c[..., cj] + a * s[..., cj]
    return torch.stack(columns, -1)


def magnitude(x, cos, sin, positions, style, reuse, nope_first):
    """|x cos| + |x' sin| is at most the sum of the pair's magnitudes: bounded by rotating nothing and adding both members."""
    largest = np.abs(f64(x)).max(-1, keepdims=True) * (np.abs(f64(cos)).max() + np.abs(f64(sin)).max())
    return np.broadcast_to(largest, x.shape)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("style", ["neox", "gptj"])
@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize("nope_first", [True, False])
@pytest.mark.parametrize(("shape", "rotary"), [((1, 1, 2), 2), ((5, 3, 8), 8), ((2, 3, 5, 16), 6), ((127, 1, 128), 64)])
def test_forward_and_gradient(shape, rotary, nope_first, reuse, style, dtype):
    x, dy = draw(0, *shape, dtype=dtype), draw(1, *shape, dtype=dtype)
    cos, sin = table(40, rotary // 2 if reuse else rotary, seed=2)
    positions = jnp.asarray(np.random.default_rng(3).integers(0, 40, shape[:-2]), jnp.int32)
    options = {"rotate_style": style, "reuse_freqs_front_part": reuse, "nope_first": nope_first}
    y, pull = jax.vjp(lambda x: rope_positions(x, cos, sin, positions, **options), x)
    args = (cos, sin, positions, style, reuse, nope_first)
    tx = torch.from_numpy(f64(x)).requires_grad_()
    want = torch_rope(tx, *args)
    want.backward(torch.from_numpy(f64(dy)))
    assert_within(y, want.detach().numpy(), UNITS * magnitude(x, *args))
    assert_within(pull(dy)[0], tx.grad.numpy(), UNITS * magnitude(dy, *args))
    still = slice(0, shape[-1] - rotary) if nope_first else slice(rotary, None)
    assert (y[..., still] == x[..., still]).all()  # copied


def test_is_hugging_faces_llama_rotation():
    b, s, h, d = 2, 7, 3, 16
    q, k = draw(0, b, s, h, d), draw(1, b, s, 1, d)
    cos, sin = table(32, d // 2)
    positions = jnp.asarray(np.random.default_rng(2).integers(0, 32, (b, s)), jnp.int32)
    wide = [torch.from_numpy(np.tile(f64(t)[np.asarray(positions)], 2)) for t in (cos, sin)]
    want = apply_rotary_pos_emb(*(torch.from_numpy(f64(x)) for x in (q, k)), *wide, unsqueeze_dim=2)
    for x, expect in zip((q, k), want, strict=True):
        args = (cos, sin, positions, "neox", True, False)
        assert_within(rope(x, cos, sin, positions), expect.numpy(), UNITS * magnitude(x, *args))


def test_positions_default_to_the_first_axis_and_offsets_shift_them():
    x, (cos, sin) = draw(0, 6, 2, 3, 8), table(20, 4)
    index = jnp.broadcast_to(jnp.arange(6, dtype=jnp.int32)[:, None], (6, 2))
    assert_same(rope(x, cos, sin), rope(x, cos, sin, index))
    offsets = jnp.asarray([[3, 5]] * 6, jnp.int32)
    assert_same(rope(x, cos, sin, offsets=offsets), rope(x, cos, sin, index + offsets))
    assert_same(rope(x, cos[:, None, None], sin[:, None, None]), rope(x, cos, sin))  # AITER's [P, 1, 1, R]


def test_positions_outside_the_table_use_its_ends_or_are_errors_when_checked():
    x, (cos, sin) = draw(0, 4, 1, 8), table(5, 4)
    positions = jnp.asarray([-3, 0, 4, 99], jnp.int32)
    inside = jnp.clip(positions, 0, 4)
    assert (rope(x, cos, sin, positions) == rope(x, cos, sin, inside)).all()  # the same program

    def report(positions):
        rope(x, cos, sin, positions).block_until_ready()
        jax.effects_barrier()

    with jax_aiter.debug_checks():
        report(inside)
        with pytest.raises(Exception, match=r"positions must be in \[0, 5\)"):
            report(positions)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_vmap_is_more_tokens(axes):
    cos, sin = table(20, 4)
    x = draw(0, *((3,) if axes[0] == 0 else ()), 5, 2, 8)
    positions = jnp.asarray(np.random.default_rng(1).integers(0, 20, (*((3,) if axes[1] == 0 else ()), 5)), jnp.int32)
    mapped = jax.vmap(lambda x, p: rope(x, cos, sin, p), in_axes=axes)
    assert not primitives(mapped, x, positions) & LOOPS
    wide = jnp.broadcast_to(x, (3, 5, 2, 8)), jnp.broadcast_to(positions, (3, 5))
    assert_same(mapped(x, positions), rope(wide[0], cos, sin, wide[1]))


def test_rotation_keeps_length_and_depends_on_distance_only():
    """q at p and k at r rotate to the same product as q at p - r and k at 0."""
    cos, sin = table(64, 16)
    q, k = draw(0, 1, 1, 32), draw(1, 1, 1, 32)
    at = lambda x, p: rope(x, cos, sin, jnp.asarray([p], jnp.int32))  # noqa: E731
    np.testing.assert_allclose(jnp.sum(at(q, 41) * at(k, 30)), jnp.sum(at(q, 11) * k), rtol=0, atol=32 * 12 * UNITS)


def test_errors_name_argument_and_rule():
    x, (cos, sin) = draw(0, 4, 2, 8), table(5, 4)
    at = jnp.zeros(4, jnp.int32)
    with pytest.raises(ValueError, match=r"rotary dimension \(twice dimension 1 of cos\) is 10, must be in \[2, 8\]"):
        rope(x, *table(5, 5), at)
    with pytest.raises(ValueError, match="dimension 1 of cos is 3, must be a multiple of 2"):
        rope(x, *table(5, 3), at, reuse_freqs_front_part=False)
    with pytest.raises(ValueError, match="rotate_style must be one of"):
        rope(x, cos, sin, at, rotate_style="llama")
    with pytest.raises(ValueError, match=r"leading dimensions of positions are \(3,\), but those of x are \(4,\)"):
        rope(x, cos, sin, at[:3])
    with pytest.raises(TypeError, match="positions has dtype float32, must be int32"):
        rope(x, cos, sin, at.astype(jnp.float32))
    with pytest.raises(ValueError, match=r"offsets must be int32 of the leading shape of x, \[4\]"):
        rope(x, cos, sin, at, offsets=at[:2])
    with pytest.raises(TypeError, match="rope has no gradient with respect to cos; it has one for x"):
        jax.grad(lambda c: jnp.sum(rope(x, c, sin, at)))(cos)


@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize("nope_first", [True, False])
def test_halves_are_put_together_once_with_the_rest_of_a_head(nope_first, reuse):
    """XLA's kernels for GPUs take wrong rows of a concatenation within another, where a norm stands before it."""
    cos, sin = table(9, 6 if reuse else 12, seed=2)
    options = {"rotate_style": "neox", "reuse_freqs_front_part": reuse, "nope_first": nope_first}
    x, positions = draw(0, 5, 3, 16), jnp.arange(5, dtype=jnp.int32)
    text = str(jax.make_jaxpr(lambda x: rotation.rotate(x, rotation.rows_at(cos, sin, positions), **options))(x))
    assert text.count("concatenate[") == 1
