"""JAX calls on the virtual device equal the CPU backend's, with and without command buffers."""

import pytest

pytest.importorskip("jax")

import cases

COMMAND_BUFFERS = {
    "streams": "--xla_gpu_enable_command_buffer=",
    "graphs": "--xla_gpu_enable_command_buffer=FUSION,CUSTOM_CALL --xla_gpu_graph_min_graph_size=1",
}
CASES = cases.load()


def test_enough_calls_are_covered():
    assert len(CASES) >= 150


@pytest.mark.parametrize("mode", COMMAND_BUFFERS)
@pytest.mark.parametrize("name", CASES)
def test_equals_cpu(conformance, name, mode):
    result = conformance(COMMAND_BUFFERS[mode])[name]
    assert "error" not in result, result["error"]
    assert result["ulps"] <= CASES[name].ulps
