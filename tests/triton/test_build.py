"""`jax-aiter kernels build` makes plans ahead of time and picks up where it stopped."""

import json

from click.testing import CliRunner

from jax_aiter.cli.kernels import kernels
from jax_aiter.kernels.described import read_calls, spec_of
from jax_aiter.kernels.triton import plans


def test_build_is_resumable_and_reports_refusals(recording_root, tmp_path):
    norm = {"op": "rms_norm", "operands": {"x": ["bfloat16", 3, 64], "weight": ["bfloat16", 64]}, "params": {"epsilon": 1e-6}}
    quant = {"op": "per_token_quant", "operands": {"x": ["bfloat16", 3, 64]}, "params": {"quant_dtype": "int8"}}
    shapes = tmp_path / "shapes.json"
    shapes.write_text(json.dumps([norm, quant]))
    arguments = ["build", "--arch", "gfx942", "--shapes", str(shapes), "--jobs", "2", "--implementation", "triton"]

    first = CliRunner().invoke(kernels, arguments)
    assert first.exit_code == 0, first.output
    assert "1 built, 0 cached, 1 refused, 0 failed" in first.output
    assert "truncates instead of rounding" in first.output
    again = CliRunner().invoke(kernels, arguments)
    assert "0 built, 1 cached, 1 refused, 0 failed" in again.output
    assert plans.find(spec_of(read_calls(shapes)[0], "gfx942"), recording_root) is not None

    only = CliRunner().invoke(kernels, [*arguments, "--ops", "per_token_quant"])
    assert "0 built, 0 cached, 1 refused" in only.output
    assert CliRunner().invoke(kernels, [*arguments, "--ops", "rope"]).exit_code == 1
