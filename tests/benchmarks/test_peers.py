"""The table against JAX's own forms: its rows on a CPU, the chain that times them, and the figures written from it."""

import json
import re
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.peers import __main__ as peers
from benchmarks.peers import report
from jax_aiter.cli.bench import chain, limits, measure, rows, table
from jax_aiter.core.arch import FP8

ROOT = Path(__file__).parents[2]
RATES = {
    "copy_bytes_per_s": 4e12,
    "matrix_flops": {"bfloat16": 7e14, "float8_e4m3fn": 1.3e15},
    "floor_s": 4e-6,
    "method": {"copy": 1.01},
}
ROWS = {row.name: row for row in rows.small(FP8["sm_90"])}
CPU = [(name, peer.name) for name, row in ROWS.items() for peer in row.peers if "cudnn" not in peer.name]


@pytest.fixture(scope="module")
def results():
    """Operands and our results of a row, once for all its peers."""
    found = {}

    def of(name):
        if name not in found:
            row = ROWS[name]
            operands = jax.jit(row.draw)()
            found[name] = operands, row.view(jax.jit(row.ours("xla"))(operands))
        return found[name]

    return of


@pytest.mark.parametrize(("name", "peer"), CPU)
def test_a_peer_gives_our_numbers(results, name, peer):
    row = ROWS[name]
    form = next(p for p in row.peers if p.name == peer)
    operands, want = results(name)
    got = form.restore(jax.jit(form.call)(jax.jit(form.prepare)(operands)))
    assert measure.difference(row.view(got), want) <= row.tolerance


@pytest.mark.parametrize("op", sorted({row.op for row in ROWS.values()}))
def test_the_full_table_has_every_op_of_the_small_one_with_the_same_forms(op):
    full = [row for row in rows.full(FP8["sm_90"]) if row.op == op]
    forms = {peer.name for row in ROWS.values() if row.op == op for peer in row.peers}
    assert full
    assert all({peer.name for peer in row.peers} <= forms for row in full)
    for row in full:  # nothing is drawn
        for peer in row.peers:
            assert row.through in measure.structs(row, peer)


def test_a_chain_runs_every_call_inside_its_loop_and_gives_the_last_result():
    x, w = (jax.random.normal(jax.random.key(i), (8, 8)) for i in range(2))
    call = lambda a: jnp.sin(a["x"] @ a["w"])  # noqa: E731
    operands = {"x": x, "w": w}
    compiled = chain.program(call, "x", 5).lower(operands).compile()
    run = chain.Chain(compiled, chain.Held(lambda: jax.tree.map(jnp.copy, operands)))
    for _ in range(2):  # the second time with the operands that the first one gave back
        np.testing.assert_allclose(run(), call(operands), rtol=1e-5, atol=1e-6)
    text = compiled.as_text()
    assert '"known_trip_count":{"n":"5"}' in text
    # What is hoisted out of the loop, or shared, would stand in the entry.
    entry = text.split("ENTRY ")[1].split("\n}")[0]
    assert not [line for line in entry.splitlines() if " dot(" in line or " sine(" in line]


def test_on_a_gpu_every_operand_of_a_call_and_the_results_before_pass_through_a_plan_that_launches_nothing():
    call = lambda a: (a["x"] @ a["w"], a["ids"].sum())  # noqa: E731
    shapes = {"x": ((8, 8), jnp.bfloat16), "w": ((8, 4), jnp.bfloat16), "ids": ((3,), jnp.int32)}
    operands = {name: jax.ShapeDtypeStruct(*of) for name, of in shapes.items()}
    text = chain.program(call, "x", 5, "sm_90").trace(operands).lower(lowering_platforms=("cuda",)).as_text()
    (passed,) = re.findall(r"stablehlo.custom_call @jax_aiter.run_plan[\w.]*\(([^)]*)\)", text)
    assert len(passed.split(",")) == 5  # three operands, two results
    aliases = re.findall(r"output_tuple_indices = \[(\d*)\],\s*operand_index = (\d)", text)
    assert sorted(aliases) == [("0", "0"), ("1", "1"), ("2", "2")]


def test_a_chained_operand_changes_only_if_the_result_says_so():
    x = jnp.arange(6.0).reshape(2, 3) + 1
    assert (chain.nudged(x, jnp.zeros(4)) == x).all()
    np.testing.assert_array_equal(chain.nudged(x, jnp.full(4, chain.NEVER)), x.at[0, 0].set(0))


@pytest.mark.parametrize(("seconds", "count"), [(1.0, chain.LEAST), (1e-4, 32), (1e-7, chain.MOST)])
def test_a_chain_is_long_enough_for_the_dispatch_not_to_show(seconds, count):
    assert chain.calls(seconds) == count


def test_one_row_is_measured_and_filed_on_a_cpu(tmp_path):
    filed = []
    row = ROWS["gemm_a16w16 8x32x16"]
    found = measure.all_rows([row], limits.measure(["bfloat16"], limits.SMALL), None, 1, lambda done: filed.append(len(done)))
    assert filed == [1]
    assert set(table.times(found[0])) == {"auto", "a @ b.T", "a @ w"}
    assert found[0]["takes"] == {"gemm_a16w16": "xla"}
    assert (table.ratio(found[0]) or 0) > 0


def planted(name, op, forms, takes="triton", limit=1e-4):
    return {"name": name, "op": op, "takes": {op: takes}, "limit_s": limit, "forms": forms, "calls": 4}


def mock():
    """A report with planted times: a win, a loss, a win that a limited form beats, wrong numbers, a failure."""
    forms = [
        {
            "auto": {"s": 2e-4},
            "triton": {"s": 2e-4},
            "sort + ragged_dot": {"s": 8e-4},
            "padded einsum": {"s": 1e-4, "limits": "drops"},
        },
        {"auto": {"s": 3e-4}, "triton": {"s": 4e-4}, "jax.nn, cudnn": {"s": 2e-4}, "jax.nn, xla": {"s": 1e-3}},
        {"auto": {"s": 1e-4}, "triton": {"failed": "NotSupportedError: no"}, "jnp": {"s": 1e-6, "failed": "other numbers"}},
        {"auto": {"s": 1e-4}, "jnp": {"s": 1.01e-4}, "dot": {"failed": "XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory"}},
    ]
    named = [
        planted("fused_moe T8", "fused_moe", forms[0]),
        planted("fused_moe fwd+bwd T8", "fused_moe", forms[1]),
        planted("rms_norm 8x8", "rms_norm", forms[2]),
        planted("rope 8x8", "rope", forms[3], "xla"),
    ]
    named.append({"name": "rope 9x9", "op": "rope", "failed": "ValueError: planted"})
    return {"device": "NVIDIA H200", "arch": "sm_90", "jax": "0.11.2", "small": False, "limits": RATES, "rows": named}


def test_the_best_peer_is_one_that_gives_the_result_for_every_input():
    moe, back, norm, rope, _ = mock()["rows"]
    assert table.best(moe) == ("sort + ragged_dot", 8e-4)
    assert table.ratio(moe) == 4.0
    assert table.ratio(back) == pytest.approx(2 / 3)
    assert table.ratio(back, "triton") == 0.5
    assert table.best(norm) is None  # wrong numbers do not count, however fast
    assert table.ratio(rope) == pytest.approx(1.01)


def test_rows_that_lose_are_named_above_the_table():
    text = report.markdown(mock())
    above = text.split("| call |")[0]
    assert "Slower than the best of JAX (peer / ours): fused_moe fwd+bwd T8 (0.67, jax.nn, cudnn), of 3 rows." in above
    assert "cannot do all that the op does (†): fused_moe T8 (0.50, padded einsum)." in above
    assert "padded einsum† 100" in text
    assert "dot: out of memory" in text
    assert "| rope 9x9 | failed: ValueError: planted |" in text
    (line,) = [line for line in text.splitlines() if line.startswith("| fused_moe T8 |")]
    assert "| 200 | triton | 200 | sort + ragged_dot | 800 | 4.00 | 4.00 | 50% |" in line


MODEL = {
    "about": "1.0 billion parameters.",
    "check": "Logits agree.",
    "steps": {
        "decode": {
            "about": "batch 64",
            "forms": {
                "auto": {"tokens_per_s": 9000.0},
                "plain: ragged_dot, xla": {"tokens_per_s": 3000.0},
                "plain: dense, xla": {"tokens_per_s": 4000.0},
                "plain: dense, cudnn": {"tokens_per_s": 1e6, "failed": "other numbers"},
                "plain: padded, xla": {"tokens_per_s": 20000.0, "limits": "drops"},
            },
        }
    },
}


def test_all_figures_are_written_from_one_file(tmp_path):
    out, docs = tmp_path / "out", tmp_path / "docs"
    out.mkdir()
    (out / "peers.json").write_text(json.dumps(mock()))
    (out / "model_step.json").write_text(json.dumps(MODEL))
    (tmp_path / "README.md").write_text(f"before\n{report.BEGIN}old\n{report.END}\nafter\n")
    report.main([out / "peers.json"], docs)
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    page = (docs / "h200.md").read_text()
    assert "| `fused_moe` | 1 | sort + ragged_dot | 4.00 | 4.00 | 50% |" in page
    assert "| `fused_moe`, forward + backward | 1 | jax.nn, cudnn | 0.67 | 0.50 | 33% |" in page
    assert "](docs/h200.svg)" in text
    assert (
        "| decode | batch 64 | 9,000 | — | 4,000 | dense, xla | 2.25 | ragged_dot, xla 3,000; dense, cudnn other numbers; " in page
    )
    assert "Whole steps of models, tokens a second over plain JAX's: decoding 2.25 (1)." in text
    _equal_to_their_file(tmp_path)
    assert "<svg" in (docs / "h200.svg").read_text()


def test_a_table_of_two_runs_has_each_row_as_the_last_measured_it_and_says_what_the_first_had(tmp_path):
    first, second = mock(), mock()
    first["limits"] = {**RATES, "copy_bytes_per_s": 3e12}
    second["rows"] = [planted("rms_norm 8x8", "rms_norm", {"auto": {"s": 5e-4}, "jnp": {"s": 1e-3}}), second["rows"][0]]
    second["rows"][0]["forms"]["auto"]["kernels"] = [["a", 1.0, 500.0]]
    found = report.summarised(report.merged([first, second]))
    assert [row["name"] for row in found["rows"]] == [row["name"] for row in first["rows"]]
    assert found["rows"][2]["forms"]["auto"] == {"s": 5e-4}
    assert found["limits"] == report.rounded(RATES)
    said = "Of a run of their own, before the others (copy 3 TB/s, bfloat16 700 TFLOP/s, float8_e4m3fn 1.3e+03 TFLOP/s there): "
    assert f"{said}fused_moe fwd+bwd T8, rope 8x8, rope 9x9.\n" in report.markdown(found)


def test_a_run_that_was_cut_off_goes_on_with_the_rows_that_it_lacks(tmp_path, monkeypatch):
    path, same = tmp_path / "peers.json", peers.about(None, True)
    rates, turns = [], []

    def measured(wanted, rates_of, arch, threads, filed, profile):
        done = []
        for row in wanted:
            turns.append(row.name)
            done.append(
                planted(row.name, row.op, {"auto": {"s": 1e-4}}) if row.name != "slow" else {"name": "slow", "failed": "late"}
            )
            filed(done)
        return done

    def limits_of(wanted, small, arch):
        rates.append({**RATES, "copy_bytes_per_s": 1e12 * (len(rates) + 1)})
        return rates[-1]

    monkeypatch.setattr(peers.measure, "all_rows", measured)
    monkeypatch.setattr(peers, "rates_of", limits_of)
    monkeypatch.setattr(peers.table, "progress", lambda row: row["name"])
    wanted = [types.SimpleNamespace(name=name, op="rope") for name in ("a", "slow", "b")]
    assert peers.kept(path, same) is None
    peers.run(wanted[:2], None, True, 1, path, False)
    peers.run(wanted[1:2], None, True, 1, path, False, peers.kept(path, same))
    found = peers.run(wanted, None, True, 1, path, False, peers.kept(path, same))
    assert turns == ["a", "slow", "slow", "slow", "b"]  # what failed is measured again
    assert json.loads(path.read_text()) == json.loads(json.dumps(found))
    assert [row["name"] for row in found["rows"]] == ["a", "slow", "b"]
    assert [(run["rows"], run["limits"]) for run in found["earlier"] if run["rows"]] == [(["a"], rates[0])]
    assert found["limits"] == rates[2]
    path.write_text(json.dumps({**found, "jax": "0.1"}))
    with pytest.raises(ValueError, match=re.escape("is of {'jax': '0.1'}")):
        peers.kept(path, same)


def test_the_readme_names_the_worst_rows_and_counts_the_others():
    rows = [planted(f"rope {n}x8", "rope", {"auto": {"s": 1e-3}, "jnp": {"s": n * 1e-4}}) for n in range(1, 10)]
    text = report.readme({**mock(), "rows": rows})
    named = "rope 1x8 (0.10, jnp), rope 2x8 (0.20, jnp), rope 3x8 (0.30, jnp)"
    assert f"Slower than the best of JAX: {named}, 6 more.\n" in text
    assert "rope 4x8" not in text


def test_a_readme_without_the_block_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "peers.json").write_text(json.dumps(mock()))
    (tmp_path / "README.md").write_text("nothing\n")
    with pytest.raises(ValueError, match="no block between"):
        report.main([tmp_path / "peers.json"], tmp_path / "docs")
    assert not (tmp_path / "docs").exists()


def _equal_to_their_file(root):
    summary = root / "docs" / "h200.json"
    block = (root / "README.md").read_text().split(report.BEGIN)[1].split(report.END)[0]
    if not summary.exists():  # nothing was measured: nothing may be claimed
        assert block == ""
        assert not (root / "docs" / "h200.md").exists()
        return
    found = json.loads(summary.read_text())
    assert found == report.rounded(found)
    assert block == report.readme(found)
    assert (root / "docs" / "h200.md").read_text() == report.markdown(found)


def test_the_projects_figures_are_those_of_the_file_they_were_taken_from():
    _equal_to_their_file(ROOT)
