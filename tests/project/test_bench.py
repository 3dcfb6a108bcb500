"""`jax-aiter bench`: what it files, what it says of two files, which shapes a model has."""

import json
import re

import click
import jax
import jax.numpy as jnp
import pytest
from click.testing import CliRunner

from jax_aiter.cli.bench import chain, command, compare, models
from jax_aiter.cli.main import cli
from jax_aiter.core.arch import FP8


def filed(median: float, low: float, high: float, name: str = "rope 8x8") -> dict:
    form = {"s": median, "quartiles": [low, high]}
    row = {
        "name": name,
        "op": "rope",
        "calls": 4,
        "limit_s": 1e-6,
        "takes": {"rope": "xla"},
        "forms": {"auto": form, "jnp": {"s": 1e-5}},
    }
    limits = {"copy_bytes_per_s": 1e10, "matrix_flops": {"bfloat16": 1e11}, "floor_s": 1e-7, "method": {"copy": 1.0}}
    return {"device": "CPU", "arch": None, "jax": "0.10.2", "small": False, "limits": limits, "rows": [row]}


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        ((2e-5, 1.9e-5, 2.1e-5), "slower"),
        ((0.5e-5, 0.4e-5, 0.6e-5), "faster"),
        ((1.3e-5, 1.0e-5, 1.6e-5), "same"),  # the ranges meet: noise
        ((1.03e-5, 1.029e-5, 1.031e-5), "same"),  # apart, but by less than one process differs from the next
    ],
)
def test_a_difference_is_claimed_only_beyond_the_noise_of_both_runs(after, verdict):
    before = filed(1e-5, 0.99e-5, 1.02e-5)
    (found,) = compare.verdicts(before, filed(*after))
    assert found.verdict == verdict
    assert found.ratio == pytest.approx(after[0] / 1e-5)


def test_runs_of_other_machines_and_rows_of_one_run_only_are_named():
    other = filed(1e-5, 1e-5, 1e-5, "rope 9x9") | {"device": "GPU"}
    assert compare.differences(filed(1e-5, 1e-5, 1e-5), other) == ["device: CPU before, GPU after"]
    assert compare.only_in_one(filed(1e-5, 1e-5, 1e-5), other) == ["rope 8x8", "rope 9x9"]
    assert compare.verdicts(filed(1e-5, 1e-5, 1e-5), other) == []


def test_compare_exits_with_1_where_a_row_got_slower(tmp_path):
    for name, run in {"a": filed(1e-5, 1e-5, 1e-5), "b": filed(2e-5, 2e-5, 2e-5)}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(run))
    a, b = (str(tmp_path / f"{n}.json") for n in "ab")
    worse = CliRunner().invoke(cli, ["bench", "--compare", a, b])
    assert worse.exit_code == 1
    assert "slower" in worse.output
    assert CliRunner().invoke(cli, ["bench", "--compare", b, a]).exit_code == 0
    said = CliRunner().invoke(cli, ["bench", "--json", "--compare", b, a])
    assert json.loads(said.output)[0]["verdict"] == "faster"


@pytest.mark.parametrize("text", ["", "[]", '{"rows": 3}', '{"rows": []}'])
def test_a_file_of_something_else_is_refused_by_name(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    done = CliRunner().invoke(cli, ["bench", "--compare", *[str(tmp_path / "x.json")] * 2])
    assert done.exit_code == 2
    assert "x.json" in done.output


@pytest.mark.parametrize("name", models.MODELS)
def test_a_models_rows_are_traced_shapes_of_its_share(name):
    of, _ = models.layer(name)
    found = models.rows(name, FP8["gfx942"], 2, 64)
    names = [row.name for row in found]
    assert len(names) == len(set(names))
    assert any(n.startswith("fused_moe") for n in names) == bool(of.experts)
    assert f"gemm_a16w16 2x{of.hidden}x{of.heads * of.head}" in names


def test_tensor_parallelism_divides_heads_and_columns():
    names = [row.name for row in models.rows("llama-70b-tp8", FP8["gfx942"], 16, 2048)]
    assert "paged_attention B16 L2048 H8/1 D128" in names
    assert "gemm_a16w16 16x7168x8192" in names  # gate and up, 28672 / 8 columns each
    assert "gemm_a16w16 16x8192x3584" in names


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("llama-7b", "known are llama-8b"),
        ("llama-8b-tp0", "known are"),
        ("llama-8b-tp3", "cannot be split 3 ways"),
        ("smollm2-135m-tp9", "1536 inter cannot be split 9 ways"),
    ],
)
def test_a_model_that_is_not_known_or_cannot_be_split_is_refused(name, rule):
    with pytest.raises(click.UsageError, match=rule):
        models.layer(name)


def test_one_row_is_measured_filed_printed_and_drawn(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib", reason="needs the bench extra")
    out, picture = tmp_path / "bench.json", tmp_path / "bench.svg"
    words = ["bench", "--only", "silu_and_mul", "--out", str(out), "--plot", str(picture)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command.limits, "CPU", command.limits.SMALL)
        done = CliRunner().invoke(cli, words, catch_exceptions=False, env={"COLUMNS": "140"})
    assert done.exit_code == 0, done.output
    report = json.loads(out.read_text())
    (row,) = report["rows"]
    low, high = row["forms"]["auto"]["quartiles"]
    assert 0 < low <= row["forms"]["auto"]["s"] <= high
    assert row["name"] in done.output
    assert "<svg" in picture.read_text()
    row["forms"]["auto"]["s"] = 0.12345  # the widest figure that there may be
    monkeypatch.setenv("COLUMNS", "80")
    command.printed({**report, "rows": [{**row, "name": "a call with a name of many words, " * 2}]})
    narrow = capsys.readouterr().out
    assert "123,4" in narrow
    assert "…" not in narrow


def test_a_virtual_gpu_is_refused(monkeypatch):
    monkeypatch.setattr(command, "virtual", lambda: True)
    done = CliRunner().invoke(cli, ["bench"])
    assert done.exit_code == 2
    assert "virtual" in done.output


def test_a_file_of_another_machine_is_shown_and_drawn_without_measuring(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "run.json").write_text(json.dumps(filed(1e-5, 1e-5, 1e-5)))
    said = CliRunner().invoke(cli, ["bench", "--show", str(tmp_path / "run.json"), "--plot", str(tmp_path / "run.svg")])
    assert said.exit_code == 0, said.output
    assert "rope 8x8" in said.output
    assert (tmp_path / "run.svg").read_text().startswith("<?xml")


def test_a_plot_that_cannot_be_drawn_is_refused_before_anything_is_measured(tmp_path, monkeypatch):
    find = command.importlib.util.find_spec
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name))
    monkeypatch.setattr(command, "run", lambda *a, **k: pytest.fail("measured all the same"))
    said = CliRunner().invoke(cli, ["bench", "--plot", str(tmp_path / "a.svg")])
    assert said.exit_code == 1
    assert "pip install matplotlib" in said.output
    assert "--show" in said.output


def test_rows_that_are_compiled_together_are_filed_one_by_one_in_their_order(tmp_path, monkeypatch):
    rows = command.chosen("", None, 16, 2048, None)[:5]
    monkeypatch.setattr(command.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(command.limits, "measure", lambda *a: {})
    groups, states = [], []

    def all_rows(group, rates, arch, threads, filed):
        groups.append(len(group))
        for number in range(len(group)):
            filed([{"name": r.name} for r in group[: number + 1]])
            states.append([r["name"] for r in json.loads((tmp_path / "a.json").read_text())["rows"]])

    monkeypatch.setattr(command.measure, "all_rows", all_rows)
    report = command.run(rows, None, tmp_path / "a.json", quiet=True)
    names = [row.name for row in rows]
    assert groups == [2, 2, 1]
    assert [row["name"] for row in report["rows"]] == names
    assert states == [names[: n + 1] for n in range(5)]


def test_what_is_made_of_an_operand_alone_stays_in_the_chain_on_a_cpu():
    """Else XLA makes it once for all calls: pages that a peer gathers cost it nothing, and the table is wrong."""
    operands = {"x": jax.ShapeDtypeStruct((8,), "float32"), "table": jax.ShapeDtypeStruct((8,), "int32")}
    made = chain.program(lambda a: a["x"] + jnp.sort(a["table"]), "x", 4).lower(operands).compile().as_text()
    (loop,) = re.findall(r"body=%?([\w.\-]+)", made)
    body = made.split(f"%{loop} (", 1)[1].split("\n}", 1)[0]
    assert "sort" in body
