"""A sample of the cases on the other architecture and under adversarial schedules; failed kernels as exceptions."""

import json

import pytest

pytest.importorskip("jax")

import cases

import vgpu

CASES = cases.load()
SAMPLE = ["exp-f32", "sort-f32", "softmax-f32", "dot-f32", "dot-bf16", "dot-f16", "dot-i8", "cumsum-f32", "random_normal"]
# gfx950's matrix unit takes OCP fp8.
SAMPLE_GFX950 = [*SAMPLE, "f32_to_e4m3fn", "multiply-e4m3fn", "top_k-f32", "erf-bf16"]


def check(done, names):
    results = {line["name"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert list(results) == names, done.stderr[-3000:]
    for name, result in results.items():
        assert "error" not in result, result
        assert result["ulps"] <= CASES[name].ulps, name


def test_gfx950(python):
    check(python(["runner.py", *SAMPLE_GFX950], vgpu.Options(arch="gfx950")), SAMPLE_GFX950)


@pytest.mark.parametrize("seed", [1, 2])
def test_adversarial_schedules_do_not_change_results(python, seed):
    names = [*SAMPLE, "scan", "while_loop", "training_loop"]
    check(python(["runner.py", *names], vgpu.Options(check=f"memory,order={seed}")), names)


FAILING = """
import jax, jax.numpy as jnp, numpy as np
x = jax.device_put(np.arange(100, dtype=np.float32))
try:
    {use}
    print("no exception")
except jax.errors.JaxRuntimeError as error:
    print("raised", "LaunchFailure" in str(error))
print(np.asarray(jax.device_put(np.arange(3))))
"""


@pytest.mark.parametrize(
    ("check", "use"),
    [("memory", "jnp.exp(x).block_until_ready()"), ("memory", "np.asarray(jnp.exp(x))"), ("none", "np.asarray(jnp.exp(x))")],
)
def test_failed_kernels_raise(python, check, use):
    # A limit of one instruction makes every kernel fail.
    done = python(["-c", FAILING.format(use=use)], vgpu.Options(check=check), VGPU_MAX_INSTRUCTIONS="1")
    assert done.stdout.splitlines()[0] == "raised True", done.stdout + done.stderr[-2000:]
    assert "kernel wrapped_exponential" in done.stderr
    if check == "memory":
        # The failure was the call's alone. Without checks it may also reach work queued behind it.
        assert done.stdout.splitlines()[1] == "[0 1 2]"
        assert done.returncode == 0
