"""JAX calls on the virtual device equal the CPU backend's, with and without command buffers, on one and four devices."""

import pytest

pytest.importorskip("jax")

import cases

STREAMS = "--xla_gpu_enable_command_buffer="
GRAPHS = "--xla_gpu_enable_command_buffer=FUSION,CUSTOM_CALL --xla_gpu_graph_min_graph_size=1"
CASES = cases.load()
# What several devices may do otherwise is a matter of the device, not of the call: every fourth call of all kinds.
FOURTH = list(CASES)[::4]
# XLA's flags, the number of devices, the runner's arguments.
MODES = {
    "streams": (STREAMS, 1, []),
    "graphs": (GRAPHS, 1, []),
    "streams-4": (STREAMS, 4, FOURTH),
    "graphs-4": (GRAPHS, 4, FOURTH),
    "streams-4-all": (STREAMS, 4, []),
    "graphs-4-all": (GRAPHS, 4, []),
    "replicated-4": (GRAPHS, 4, ["--replicate"]),
}
LONG = {"streams-4-all", "graphs-4-all", "replicated-4"}


def test_enough_calls_are_covered():
    assert len(CASES) >= 150


def marked(mode: str, *rest: str):
    return pytest.param(mode, *rest, marks=[pytest.mark.exhaustive] if mode in LONG else [])


@pytest.mark.parametrize(("mode", "name"), [marked(m, n) for m in MODES for n in (FOURTH if MODES[m][2] is FOURTH else CASES)])
def test_equals_cpu(conformance, name, mode):
    result = conformance(mode, *MODES[mode])[name]
    assert "error" not in result, result["error"]
    assert result["ulps"] <= CASES[name].ulps


@pytest.mark.parametrize("mode", [marked(m) for m in MODES])
def test_every_device_had_work(conformance, mode):
    used = {device for result in conformance(mode, *MODES[mode]).values() for device in result.get("devices", [])}
    assert used == set(range(MODES[mode][1]))
