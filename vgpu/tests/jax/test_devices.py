"""What a JAX program sees of the device, several of them, and what is refused."""

import pytest

import vgpu

DEVICES = """
import jax
for d in jax.devices():
    print(d.platform, d.id, d.compute_capability, d.device_kind)
"""


@pytest.mark.parametrize(("arch", "kind"), [("gfx942", "MI300X"), ("gfx950", "MI355X")])
def test_devices_are_listed(python, arch, kind):
    done = python(["-c", DEVICES], vgpu.Options(arch=arch, devices=2))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"gpu {i} {arch} AMD Instinct {kind} (virtual)" for i in range(2)]


COLLECTIVES = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
mesh = jax.make_mesh((4,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
def on_mesh(f, x, out):
    spec = P("i", *[None] * (x.ndim - 1))
    x = jax.device_put(x, NamedSharding(mesh, spec))
    return np.asarray(jax.jit(jax.shard_map(f, mesh=mesh, in_specs=spec, out_specs=out, check_vma=False))(x))
for columns in (8, 1 << 16):  # small ones run as XLA's own kernel, large ones through RCCL
    for dtype in (np.float32, np.int32, jnp.bfloat16):
        x = (np.arange(4 * columns).reshape(4, columns) % 17 - 8).astype(dtype)
        total = x.astype(np.float32).sum(0, keepdims=True).astype(dtype)
        np.testing.assert_array_equal(on_mesh(lambda v: jax.lax.psum(v, "i"), x, P()), total)
        np.testing.assert_array_equal(on_mesh(lambda v: jax.lax.pmax(v, "i"), x, P()), x.max(0, keepdims=True))
        np.testing.assert_array_equal(on_mesh(lambda v: jax.lax.all_gather(v, "i", tiled=True), x, P()), x)
        shift = on_mesh(lambda v: jax.lax.ppermute(v, "i", [(a, (a + 1) % 4) for a in range(4)]), x, P("i"))
        np.testing.assert_array_equal(shift, np.roll(x, 1, 0))
        scattered = on_mesh(lambda v: jax.lax.psum_scatter(v, "i", scatter_dimension=1, tiled=True), x, P(None, "i"))
        np.testing.assert_array_equal(scattered, total)
        swapped = on_mesh(lambda v: jax.lax.all_to_all(v, "i", 1, 0, tiled=True), x, P(None, "i"))
        np.testing.assert_array_equal(swapped, x)
a = np.random.default_rng(0).normal(size=(16, 32)).astype(jnp.bfloat16)
b = np.random.default_rng(1).normal(size=(32, 16)).astype(jnp.bfloat16)
sharded = jax.jit(jnp.dot, out_shardings=NamedSharding(mesh, P("i")))(jax.device_put(a, NamedSharding(mesh, P("i"))), b)
want = a.astype(np.float32) @ b.astype(np.float32)
assert np.abs(np.asarray(sharded, np.float32) - want).max() <= 2**-8 * np.abs(want).max()  # one rounding to bf16
print("equal")
"""


def test_four_devices_exchange_data(python):
    done = python(["-c", COLLECTIVES], vgpu.Options(devices=4))
    assert done.stdout == "equal\n", done.stderr[-3000:]


REFUSALS = """
import jax, jax.numpy as jnp
x = jnp.ones((1, 1, 8, 8))
for name, f in {
    "conv": lambda: jax.lax.conv(x, x[:, :, :3, :3], (1, 1), "SAME"),
    "fft": lambda: jnp.fft.fft(x[0, 0]),
    "cholesky": lambda: jnp.linalg.cholesky(jnp.eye(8)),
}.items():
    try:
        jax.block_until_ready(f())
        print(name, "ran")
    except Exception as error:
        print(name, "raised", type(error).__name__)
print(jnp.arange(3) + 1)
"""


def test_missing_libraries_raise_and_the_process_goes_on(python):
    done = python(["-c", REFUSALS])
    raised = [line.split()[:2] for line in done.stdout.splitlines()[:3]]
    assert raised == [[name, "raised"] for name in ("conv", "fft", "cholesky")], done.stdout + done.stderr[-2000:]
    assert done.stdout.splitlines()[3] == "[1 2 3]"
    for library_function in ("miopen", "hipfft", "hipsolver"):
        assert f"[vgpu] {library_function}" in done.stderr


def test_memory_runs_out_at_the_configured_size(python):
    program = """
import jax, numpy as np
big = np.zeros(40 << 20, np.uint8)
kept = []
try:
    for _ in range(8):
        kept.append(jax.device_put(big).block_until_ready())
except jax.errors.JaxRuntimeError as error:
    print(len(kept), "RESOURCE_EXHAUSTED" in str(error))
"""
    done = python(["-c", program], vgpu.Options(memory=0.25))
    count, exhausted = done.stdout.split()
    assert exhausted == "True", done.stderr[-2000:]
    assert 3 <= int(count) <= 6  # 256 MiB hold at most six of 40
