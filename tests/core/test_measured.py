"""The measurements that ship with the package: for every call of docs/h200_tiles.json auto takes the faster side, near it too."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import pytest

import jax_aiter
from benchmarks import tiles_choice
from benchmarks.h200 import tile_shapes
from jax_aiter.bind import measured, preference, select, tuning
from jax_aiter.core.config import config

PAGE = json.loads(tiles_choice.PAGE.read_text())
CALLS = tiles_choice.calls("sm_90")
ROWS = {row["call"]: row["us"] for row in PAGE["rows"]}
NAMES = [f"{number}-{name.split(' ')[0]}" for number, name in enumerate(ROWS)]
TINY = tiles_choice.call_of(tile_shapes.moe(16, 8, 2, 4096, 1792), "sm_90")


@pytest.fixture(autouse=True)
def nothing_tuned(monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_AITER_CACHE", str(tmp_path))
    monkeypatch.delenv("JAX_AITER_TUNE", raising=False)


def taken(call) -> str:
    """What auto takes where Triton can run the call."""
    return next(iter(preference.preference(call, ["triton"]).order), "xla")


def moe(tokens, experts=8, k=2, model=4096, inter=1792, quant="none", **params):
    described = tile_shapes.moe(tokens, experts, k, model, inter, quant)
    return tiles_choice.call_of({**described, "params": {**described["params"], **params}}, "sm_90")


def less(size: int) -> int:
    """The size before this one, if it is rounded to the same power of two."""
    return size - 1 if size > 1 and (size - 1).bit_length() == max(size - 2, 0).bit_length() else size


def test_the_table_is_that_of_the_page():
    assert (measured.FOLDER / "sm_90.json").read_text() == tiles_choice.text(PAGE, "sm_90")
    assert len(tiles_choice.entries(PAGE, "sm_90")) == len(ROWS), "no two of the measured calls share a key"
    assert len(ROWS) >= 60


@pytest.mark.parametrize("name", ROWS, ids=NAMES)
def test_auto_takes_the_faster_side_of_every_measured_call(name):
    """Faster by more than two measurements of one program differ; within that either will do."""
    us = ROWS[name]
    assert us[taken(CALLS[name])] * (1 - tuning.MARGIN) <= min(us.values())


@pytest.mark.parametrize("name", ROWS, ids=NAMES)
def test_a_call_in_the_middle_of_its_bucket_goes_by_the_row(name):
    """One less along every dimension that the key rounds up keeps the bucket, and the choice."""
    call = CALLS[name]
    found = measured.nearest(call)
    assert found is not None
    assert (found.far, found.entry.measured) == (0.0, tuning.spelled(call))
    smaller = {n: jax.ShapeDtypeStruct(list(map(less, x.shape)), x.dtype) for n, x in call.operands.items()}
    near = dataclasses.replace(call, operands=smaller)
    assert tuning.key(near) == tuning.key(call)
    assert taken(near) == taken(call)


def test_what_loses_is_said_with_its_row_times_and_origin():
    (why,) = preference.preference(TINY, ["triton"]).passed_over.values()
    assert why == (
        "shipped for sm_90, of this bucket: xla 0.1 ms, triton 0.11 ms at hidden_states=bfloat16[16,4096] "
        "w1=bfloat16[8,3584,4096] w2=bfloat16[8,4096,1792] topk_weight=float32[16,2] topk_ids=int32[16,2] (NVIDIA H200, jax 0.11.2)"
    )


@pytest.mark.parametrize(("tokens", "expected"), [(16, "xla"), (9, "xla"), (8, "xla"), (32, "xla"), (33, "triton"), (4, "triton")])
def test_a_row_of_few_tokens_says_nothing_of_many(tokens, expected):
    assert taken(moe(tokens)) == expected
    far = measured.nearest(moe(tokens))
    assert (far is not None) == (expected == "xla")


def test_rows_do_not_reach_beyond_one_doubling_of_any_operand():
    """Every row, with its rows of tokens (or whatever its first operand counts first) four times as many or as few."""
    for name, call in CALLS.items():
        first = next(iter(call.operands.values())).shape[0]
        for factor in (4, 0.25):
            changed = {
                n: jax.ShapeDtypeStruct([int(s * factor) if s == first else s for s in x.shape], x.dtype)
                for n, x in call.operands.items()
            }
            far = measured.nearest(dataclasses.replace(call, operands=changed))
            assert far is None or far.entry.measured != tuning.spelled(call) or first < 4, name


def test_experts_and_widths_are_part_of_the_bucket():
    """As many rows per expert as the measured call has, of four times the experts or half of both widths: not that call."""
    assert measured.nearest(moe(64, experts=32)) is None
    assert measured.nearest(moe(16, model=2048, inter=896)) is None
    assert measured.nearest(moe(16, inter=896)) is not None


def test_fp8_goes_by_its_own_rows():
    whole, quantised = (measured.nearest(moe(4096, 128, 8, 2048, 768, quant=quant)) for quant in ("none", "per_token"))
    assert whole is not None
    assert quantised is not None
    assert "float8" in quantised.entry.measured
    assert "float8" not in whole.entry.measured


@pytest.mark.parametrize(
    ("params", "counts"),
    [
        ({"activation": "gelu"}, True),
        ({"gate_mode": "interleave"}, True),
        ({"output_dtype": "float32"}, True),
        ({"hidden_pad": 64}, False),
        ({"weight_layout": (16, 16)}, False),
    ],
)
def test_parameters_that_change_the_work_are_part_of_the_row(params, counts):
    assert (measured.nearest(moe(16, **params)) is not None) == counts


def test_the_other_type_of_16_bits_counts_as_the_same():
    described = json.loads(json.dumps(tile_shapes.moe(16, 8, 2, 4096, 1792)).replace("bfloat16", "float16"))
    assert taken(tiles_choice.call_of(described, "sm_90")) == "xla"


def test_times_of_one_form_of_the_reference_say_nothing_of_another():
    """cuDNN won; XLA's own loop over blocks was not what it was timed against."""
    name = next(n for n, us in ROWS.items() if n.startswith("flash_attention_bwd") and us["xla"] < 0.9 * us["triton"])
    assert taken(CALLS[name]) == "xla"
    without = dataclasses.replace(CALLS[name], reference=dataclasses.replace(CALLS[name].reference, name="blocks", fused=False))
    assert measured.nearest(without) is None
    assert taken(without) == "triton"


def test_two_rows_as_near_that_disagree_leave_it_to_the_rule(monkeypatch):
    def row(tokens, seconds):
        call = moe(tokens)
        key = tuning.key(call)
        entry = tuning.Entry(seconds, tuning.spelled(call), reference=call.reference.name)
        return measured._Row(measured.kind(key), measured.sizes(key), entry)

    rows = [row(16, {"xla": 1.0, "triton": 2.0}), row(64, {"xla": 2.0, "triton": 1.0})]
    monkeypatch.setattr(measured, "_table", lambda arch: ("card", tuple(rows)))
    assert measured.nearest(moe(32)) is None
    assert [taken(moe(tokens)) for tokens in (8, 16, 64)] == ["xla", "xla", "triton"]


def test_what_was_tuned_here_comes_first(tmp_path):
    path = tuning.tune_file("sm_90")
    path.parent.mkdir(parents=True)
    path.write_bytes(tuning.render({tuning.key(TINY): tuning.Entry({"xla": 2.0, "triton": 1.0}, "here")}))
    assert taken(TINY) == "triton"


def test_a_kernel_that_nobody_timed_is_left_to_the_rule():
    assert preference.preference(TINY, ["asm", "triton"]).order == ("asm", "triton")


class Willing:
    """A Triton provider that takes every call."""

    name = "triton"
    refuse = plan = passes_over = lambda self, call: None

    def details(self, call):
        return ()


@pytest.mark.parametrize(("tokens", "expected"), [(16, "xla"), (1024, "triton")])
def test_explain_shows_the_choice(monkeypatch, tokens, expected):
    monkeypatch.setattr(select, "providers", lambda: (Willing(),))
    call = moe(tokens)
    with config(arch="sm_90"):
        (found,) = jax_aiter.explain(jax_aiter.fused_moe, *call.operands.values(), platform="cuda")
    assert found.implementation == expected
    before = "not triton: " if expected == "xla" else ""
    lines = str(found).splitlines()
    times = {16: "xla 0.1 ms, triton 0.11 ms", 1024: "triton 0.298 ms, xla 0.59 ms"}[tokens]
    assert any(line.strip().startswith(f"{before}shipped for sm_90, of this bucket: {times}") for line in lines), lines


def test_architectures_without_a_table_have_no_rows():
    x = jax.ShapeDtypeStruct((16, 4096), jnp.bfloat16)
    assert measured.nearest(select.Call("rms_norm", select.Target("rocm", "gfx942"), {"x": x}, {}, (x,))) is None
    assert measured.nearest(select.Call("rms_norm", select.Target("cpu", None), {"x": x}, {}, (x,))) is None
