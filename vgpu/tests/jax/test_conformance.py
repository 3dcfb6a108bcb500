"""JAX calls on the virtual device equal the CPU backend's, with and without command buffers, on one and four devices."""

import pytest

pytest.importorskip("jax")

import cases

STREAMS = "--xla_gpu_enable_command_buffer="
GRAPHS = "--xla_gpu_enable_command_buffer=FUSION,CUSTOM_CALL --xla_gpu_graph_min_graph_size=1"
# XLA's flags, the number of devices, the runner's arguments.
MODES = {
    "streams": (STREAMS, 1, []),
    "graphs": (GRAPHS, 1, []),
    "streams-4": (STREAMS, 4, []),
    "graphs-4": (GRAPHS, 4, []),
    "replicated-4": (GRAPHS, 4, ["--replicate"]),
}
CASES = cases.load()


def test_enough_calls_are_covered():
    assert len(CASES) >= 150


def modes() -> list:
    """Four devices that all compute everything take four times as long."""
    marks = {"replicated-4": [pytest.mark.exhaustive]}
    return [pytest.param(mode, marks=marks.get(mode, [])) for mode in MODES]


@pytest.mark.parametrize("mode", modes())
@pytest.mark.parametrize("name", CASES)
def test_equals_cpu(conformance, name, mode):
    result = conformance(mode, *MODES[mode])[name]
    assert "error" not in result, result["error"]
    assert result["ulps"] <= CASES[name].ulps


@pytest.mark.parametrize("mode", modes())
def test_every_device_had_work(conformance, mode):
    used = {device for result in conformance(mode, *MODES[mode]).values() for device in result.get("devices", [])}
    assert used == set(range(MODES[mode][1]))
