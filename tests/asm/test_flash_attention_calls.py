"""Flash attention calls as users make them: random ones that run or are refused by a rule, exported, sharded, batched by vmap."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import Mesh, PartitionSpec

import jax_aiter
from jax_aiter import NotSupportedError
from jax_aiter.kernels.call import export_checks

from . import attention
from .test_flash_attention import check as check_forward
from .test_flash_attention import check_packed as check_packed_forward
from .test_flash_attention_bwd import check as check_backward
from .test_flash_attention_bwd import check_packed as check_packed_backward
from .test_flash_attention_bwd import equal


@pytest.mark.parametrize("seed", range(4))
def test_random_calls(arch, seed):
    """25 calls a seed, forward and backward, whole and packed."""
    rng = np.random.default_rng(seed)
    for i in range(25):
        sq, sk = (int(n) for n in rng.integers(1, 140, 2))
        hk, group, causal = int(rng.integers(1, 3)), int(rng.integers(1, 4)), bool(rng.integers(2))
        lengths = [[int(n) for n in rng.integers(0, 60, 3)] for _ in range(2)]
        for x in lengths:
            x[int(rng.integers(3))] += 1
        if i % 2:
            heads = [(128, 128), (192, 128)][int(rng.integers(2))]
            if i % 4 == 1:
                check_forward(int(rng.integers(1, 3)), sq, sk, hk * group, hk, heads, causal=causal, seed=i)
            else:
                check_packed_forward(lengths[0], lengths[1], hk * group, hk, heads, causal=causal, seed=i, padding=(i, 3))
        else:
            # gfx950 has no packed kernels of its own for some heads, but shares gfx942's.
            heads = equal(8 * int(rng.integers(9, 25)))
            dtype = ("bfloat16", "float16")[int(rng.integers(2))]
            if i % 4 == 0:
                check_backward(int(rng.integers(1, 3)), sq + 1, sk, hk * group, hk, heads, causal=causal, seed=i, dtype=dtype)
            else:
                check_packed_backward(lengths[0], lengths[1], hk * group, hk, heads, causal=causal, seed=i, dtype=dtype, padding=i)


def test_calls_that_do_not_fit_are_refused():
    """500 calls with something the kernels do not know: each names a rule, none gets as far as a launch."""
    rng = np.random.default_rng(11)
    for i in range(500):
        sq, sk, hk, group = (int(n) for n in rng.integers(1, 300, 4) % (300, 300, 4, 5) + 1)
        head, dtype = 128, jnp.bfloat16
        options: dict[str, Any] = {"causal": bool(rng.integers(2))}
        extra: list[jax.ShapeDtypeStruct] = []
        kind = i % 7
        if kind == 0:
            head = int(rng.choice([8, 32, 64, 96, 120, 136, 256]))
        elif kind == 1:
            dtype = (jnp.float16, jnp.float32)[int(rng.integers(2))]
        elif kind == 2:
            options["logits_soft_cap"] = float(rng.uniform(1, 50))
        elif kind == 3:
            sk += 8
            options["sliding_window"] = (int(rng.integers(0, min(sk - 1, 6))), 0)
        elif kind == 4:
            options["kernel"] = "fwd_hd128_bf16_rtnx"
        elif kind == 5:
            extra.append(jax.ShapeDtypeStruct((hk * group,), jnp.float32))
        else:
            extra.append(jax.ShapeDtypeStruct((sq, sk), jnp.float32))
        x = [jax.ShapeDtypeStruct((1, s, h, head), dtype) for s, h in ((sq, hk * group), (sk, hk), (sk, hk))]

        def call(q, k, v, *more, name="alibi_slopes" if kind == 5 else "bias", options=options):
            named = dict(zip((name,), more, strict=False))
            return jax_aiter.flash_attention(q, k, v, implementation="asm", **named, **options)

        with pytest.raises(NotSupportedError, match=r"flash_attention: .*( = |has dtype|is given|head sizes)"):
            jax.jit(call).lower(*x, *extra)


def operands(b=2, s=150):
    rng = np.random.default_rng(0)
    return [jnp.asarray(attention.draw(rng, b, s, h, 128)) for h in (4, 2, 2)]


def loss(q, k, v):
    out = jax_aiter.flash_attention(q, k, v, causal=True, implementation="asm")
    return jnp.sum(out.astype(jnp.float32) ** 2)


def test_export_and_reload():
    """Forward and backward in one exported program."""
    arrays, grad = operands(), jax.jit(jax.grad(loss, (0, 1, 2)))
    exported = export.export(grad, platforms=["rocm"], disabled_checks=export_checks())(*arrays)
    reloaded = export.deserialize(exported.serialize())
    for a, b in zip(reloaded.call(*arrays), grad(*arrays), strict=True):
        # Workgroups add to dq in any order.
        np.testing.assert_allclose(np.asarray(a, np.float32), np.asarray(b, np.float32), rtol=2**-7, atol=2**-7)


def test_sharded_over_two_devices():
    if len(jax.devices()) < 2:
        pytest.skip("needs two devices")
    arrays = operands()
    mesh, spec = Mesh(np.array(jax.devices()[:2]), ("data",)), PartitionSpec("data")

    def local(q, k, v):
        return jax.grad(loss, (0, 1, 2))(q, k, v)

    sharded = jax.jit(jax.shard_map(local, mesh=mesh, in_specs=(spec,) * 3, out_specs=(spec,) * 3))
    for a, b in zip(sharded(*arrays), jax.jit(local)(*arrays), strict=True):
        np.testing.assert_allclose(np.asarray(a, np.float32), np.asarray(b, np.float32), rtol=2**-7, atol=2**-7)


def test_vmap_folds_into_the_batch():
    q, k, v = (jnp.stack([x, x[::-1]]) for x in operands(s=40))

    def call(q, k, v):
        return jax_aiter.flash_attention(q, k, v, causal=True, implementation="asm")

    together = jax.jit(jax.vmap(call))(q, k, v)
    for i in range(2):  # exact: one code object, which computes each sequence by itself
        np.testing.assert_array_equal(together[i], jax.jit(call)(q[i], k[i], v[i]))
