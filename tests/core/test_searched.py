"""Tiles in the tuning file and in the tables that are shipped: what is read, what is refused, and which one a call takes."""

import dataclasses
import json

import pytest

from jax_aiter.bind import searched, tuning
from jax_aiter.bind.searched import Searched
from jax_aiter.kernels.provider import Call, Target
from jax_aiter.kernels.spec import ArraySpec, CallSpec
from jax_aiter.kernels.triton.adapters import adapters
from jax_aiter.kernels.triton.tiles import choose, shipped
from jax_aiter.kernels.triton.tiles.space import Space, distance
from jax_aiter.ops.catalogue import all_ops

FOUND = Searched({"BLOCK_SIZE_M": 64, "stage2.mod": ".cg"}, 1e-4, 2e-4, 0.01, ({"BLOCK_SIZE_M": 32}, 1.1e-4), {"rows": 8}, 12)
SPACE = Space({"N": (1, 2, 4, 8)}, {"rows": 8}, valid=lambda tile: "too many" if tile.get("N", 0) > 4 else None)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_AITER_CACHE", str(tmp_path))
    monkeypatch.delenv("JAX_AITER_TUNE", raising=False)
    monkeypatch.setattr(shipped, "rows", lambda arch: ())
    return tmp_path


def spec(rows=8, dtype="bfloat16", **params) -> CallSpec:
    return CallSpec("some_op", "sm_90", {"x": ArraySpec((rows, 64), dtype)}, params, ())


def write(**found: tuple[CallSpec, dict, int]):
    path = tuning.tune_file("sm_90")
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = {}
    for call, tile, rows in found.values():
        done = dataclasses.replace(FOUND, tile=tile, bucket={"rows": rows}, runner_up=None)
        entries[choose.key(call)] = tuning.Entry({"xla": 1.0, "triton": 0.5}, "x", done)
    path.write_bytes(tuning.render(entries))


@pytest.mark.parametrize("found", [FOUND, dataclasses.replace(FOUND, tile={}, own_seconds=None, runner_up=None), None])
def test_what_was_found_reads_back(found):
    entries = {"k": tuning.Entry({"xla": 1e-5, "triton": 2.5e-6}, "x=f[1]", found), "old": tuning.Entry({"xla": 1.0}, "y")}
    assert tuning.parse(tuning.render(entries).decode()) == entries


HOSTILE = [
    ({"tile": []}, "tile must be an object"),
    ({"tile": {"a b": 1}}, "'a b'"),
    ({"tile": {"a.b.c": 1}}, "a.b.c"),
    ({"tile": {"BLOCK\n": 1}}, "names are a kernel's"),
    ({"tile": {"N": 1.5}}, "1.5"),
    ({"tile": {"N": True}}, "True"),
    ({"tile": {"N": -1}}, "-1"),
    ({"tile": {"N": 1 << 70}}, "65536"),
    ({"tile": {"N": None}}, "None"),
    ({"tile": {"N": ".cg\n"}}, "cache modifiers"),
    ({"tile": {"N": "__import__('os')"}}, "cache modifiers"),
    ({"tile": {f"N{i}": 1 for i in range(65)}}, "at most 64"),
    ({"tile_seconds": 0}, "tile_seconds must be a positive"),
    ({"tile_seconds": float("nan")}, "tile_seconds must be a positive"),
    ({"tile_seconds": None}, "tile_seconds must be a positive"),
    ({"own_seconds": "1"}, "own_seconds must be a positive"),
    ({"spread": -1}, "spread"),
    ({"spread": float("inf")}, "spread"),
    ({"tried": 0}, "tried"),
    ({"tried": 1e3}, "tried"),
    ({"runner_up": 3}, "runner_up must be an object"),
    ({"runner_up": {"tile": {"N": 1}}}, "runner_up must be a positive"),
    ({"runner_up": {"seconds": 1.0}}, "runner_up: tile must be an object"),
    ({"bucket": {"rows": 1.5}}, "bucket"),
    ({"bucket": [1]}, "bucket"),
]


@pytest.mark.parametrize(("fields", "reason"), HOSTILE, ids=[str(i) for i in range(len(HOSTILE))])
def test_a_hostile_file_is_refused(fields, reason):
    text = json.dumps({"version": 1, "entries": {"k": {"seconds": {"xla": 1.0}, **FOUND.to_json(), **fields}}})
    with pytest.raises(ValueError, match=f"^k: .*{reason}|^k: tile: .*{reason}"):
        tuning.parse(text)


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_a_hostile_file_is_warned_about_and_no_tile_comes_of_it(number):
    path = tuning.tune_file("sm_90")
    path.parent.mkdir(parents=True)
    fields = HOSTILE[number][0]
    entry = {"seconds": {"xla": 1.0}, **FOUND.to_json(), **fields}
    path.write_text(json.dumps({"version": 1, "entries": {choose.key(spec()): entry}}))
    with pytest.warns(RuntimeWarning, match="ignores the tuning file"):
        assert choose.choose(spec(), SPACE) == ({}, choose.OWN)


def test_a_tile_of_the_file_that_is_none_of_the_ops_is_passed_over():
    """The file is well formed; what it says is not for this op: another release wrote it, or somebody by hand."""
    for tile in ({"M": 1}, {"N": ".cg"}, {"N": 8}):
        write(own=(spec(), tile, 8))
        assert choose.choose(spec(), SPACE) == ({}, choose.OWN)


def test_the_key_of_a_description_is_that_of_the_call():
    """Of every case of every op: what is measured under one is found under the other."""
    for op in all_ops().values():
        for case in op.cases():
            operands = {n: a.struct for n, a in case.operands.items()}
            call = Call(op.name, Target("cuda", "sm_90"), operands, case.params, ())
            assert choose.key(CallSpec.of(call)) == tuning.key(call)


def test_the_nearest_that_suits_is_taken(monkeypatch):
    assert choose.choose(spec(), SPACE) == ({}, choose.OWN)
    write(own=(spec(), {"N": 2}, 8), far=(spec(64), {"N": 4}, 64), other=(spec(64, causal=True), {"N": 1}, 64))
    assert choose.choose(spec(), SPACE) == ({"N": 2}, "measured for this bucket by `jax-aiter tune`")
    near = dataclasses.replace(SPACE, bucket={"rows": 32})
    tile, origin = choose.choose(spec(32), near)
    assert tile == {"N": 4}
    assert "nearest bucket, rows=64" in origin
    assert choose.choose(spec(32, dtype="float16"), near) == ({}, choose.OWN), "another dtype"
    assert choose.choose(spec(4096), dataclasses.replace(SPACE, bucket={"rows": 4096})) == ({}, choose.OWN), "too far"
    row = shipped.Row("some_op", {"x": "bfloat16"}, {}, {"rows": 4096}, {"N": 1}, "measured")
    monkeypatch.setattr(shipped, "rows", lambda arch: (row,))
    tile, origin = choose.choose(spec(1 << 20), dataclasses.replace(SPACE, bucket={"rows": 1 << 20}))
    assert tile == {"N": 1}
    assert origin == "shipped for sm_90, of rows=4096 (measured)"
    assert choose.choose(spec(32), near)[0] == {"N": 4}, "what is nearer"
    with choose.forced("some_op", {}):
        assert choose.choose(spec(), SPACE)[0] == {}
    with choose.forced("another_op", {}):
        assert choose.choose(spec(), SPACE)[0] == {"N": 2}


def test_aiters_own_configuration_that_won_is_kept():
    write(own=(spec(), {}, 8), near=(spec(16), {"N": 4}, 16))
    assert choose.choose(spec(), SPACE) == ({}, "measured for this bucket by `jax-aiter tune`")


def test_distance():
    assert distance({"a": 8, "b": 3}, {"a": 2, "b": 3}) == 2
    assert distance({"a": 0}, {"a": 1}) == 0
    assert distance({"a": 1}, {"b": 1}) == float("inf")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"op": 3}, "op must be of type str"),
        ({"bucket": {}}, "bucket is empty"),
        ({"tile": {"N": 2.0}}, "tile"),
        ({"dtypes": {"x": 1}}, "dtypes must be names"),
        ({"more": 1}, "must be an object of op, dtypes"),
    ],
)
def test_a_bad_row_of_a_table_is_named(row, reason):
    good = {"op": "some_op", "dtypes": {}, "params": {}, "bucket": {"rows": 1}, "tile": {"N": 2}, "origin": "measured"}
    assert len(shipped.parse(json.dumps({"version": 1, "rows": [good]}), "t.json")) == 1
    with pytest.raises(ValueError, match=rf"t\.json: row 1.*{reason}"):
        shipped.parse(json.dumps({"version": 1, "rows": [good, {**good, **row}]}), "t.json")
    for text in ("{", "[]", '{"version": 2, "rows": []}', '{"version": 1}'):
        with pytest.raises(ValueError, match=r"t\.json"):
            shipped.parse(text, "t.json")


def test_the_tables_of_this_package_are_of_ops_with_such_tiles():
    for path in shipped.FOLDER.glob("*.json"):
        for row in shipped.parse(path.read_text(), path.name):
            assert adapters()[row.op].space is not None, row
            searched.tile(row.op, row.tile)
