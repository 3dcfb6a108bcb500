"""What `python -m jax_aiter.kernels.asm.coverage` says: the shipped record against what the ops can select. Runs nothing."""

import itertools
import json
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from jax_aiter.core.config import config
from jax_aiter.core.text import json_by_line
from jax_aiter.kernels.asm import coverage
from jax_aiter.kernels.asm.device import ARCHS
from jax_aiter.kernels.asm.moe import asm_moe, g1u1
from jax_aiter.kernels.asm.registry import adapters
from jax_aiter.kernels.asm.tables import kernels, location
from jax_aiter.kernels.known import AITER_COMMIT, PROVEN, PYPI_RELEASE, lookup
from jax_aiter.kernels.store.survey import survey
from tests.needs import needs_aiter, skip_without_aiter

DOC = Path(__file__).parents[2] / "docs/asm.md"
LEAST = {"gfx942": 150, "gfx950": 40}  # code objects that must have agreed with an oracle


@pytest.fixture(scope="module")
def record():
    return json.loads(PROVEN.read_text())


@pytest.fixture(scope="module")
def _files():
    needs_aiter("hsa")


@pytest.fixture(scope="module")
def here(_files):
    return survey(location())


def entry(outcome):
    return {"arch": "gfx942", "outcome": outcome}


def test_nothing_in_the_record_differed(record):
    assert [key for key, found in record.items() if found.get("outcome") == "differed"] == []


@pytest.mark.parametrize("arch", ARCHS)
def test_enough_agreed(record, arch):
    counts = Counter(found.get("outcome") for found in record.values() if found["arch"] == arch)
    assert counts["agreed"] >= LEAST[arch]


@pytest.mark.usefixtures("_files")
def test_what_ran_can_be_selected_and_what_has_defects_cannot(record):
    for arch in ARCHS:
        refused = {coverage.hash_of(path): why for v in coverage.variants(arch) for path, why in v.refused.items()}
        usable = {coverage.hash_of(path) for path in coverage.selectable(arch)}
        ran = {key for key, found in record.items() if "outcome" in found and found["arch"] == arch}
        # Of what ran from another release, this one may have no row.
        assert {refused[key] for key in ran & refused.keys() - usable} <= {coverage.UNLISTED}
        assert not {key for key, found in record.items() if "defects" in found} & usable


def test_every_object_of_the_record_is_known(record):
    for key, found in record.items():
        known = lookup(key)
        assert known is not None
        assert known.names[0].startswith(f"hsa/{found['arch']}/")
        assert (known.outcome, known.defects) == (found.get("outcome"), tuple(found.get("defects", ())))


@pytest.mark.usefixtures("_files")
def test_an_object_is_selectable_if_one_op_can_select_it():
    """asm_moe takes the g1u1 kernels with smooth scales, fused_moe those without, and neither the defective one."""
    table = "fmoe/silu/fmoe_fp16_pertokenFp8_g1u1_silu.csv"
    rows, selectable = kernels("gfx942", table), coverage.selectable("gfx942")
    taken = {row.path: (g1u1.never(row) is None, asm_moe.never(row) is None) for row in rows}
    assert set(taken.values()) == {(True, False), (False, True), (False, False)}
    assert {path for path, by in taken.items() if any(by)} == {row.path for row in rows} & selectable
    (found,) = [v for v in coverage.variants("gfx942") if v.name == "fmoe_fp16_pertokenFp8_g1u1_silu"]
    assert dict(found.refused) == {
        "hsa/gfx942/fmoe/silu/fmoe_fp16_pertokenFp8_g1u1_vs_silu_1tg_32x128.co": "computes the last 256 columns of the output only"
    }


@pytest.mark.usefixtures("_files")
@pytest.mark.parametrize("arch", ARCHS)
def test_helper_kernels_go_with_kernels_that_can_be_selected(arch):
    """Those that make dq of an accumulator are selected through the main kernel's row, so nobody can name them."""
    needs_aiter(f"hsa/{arch}/fmha_v3_bwd/fmha_bwd_odo.csv")
    found = {v.name: v for v in coverage.variants(arch) if v.family == "fmha_v3_bwd"}
    unused = {p.rpartition("/")[2] for n in ("odo", "dq_convert", "dq_shuffle") for p in found[f"fmha_bwd_{n}"].refused}
    assert unused == ({"bwd_hd192_dq_shuffle_group.co"} if arch == "gfx950" else set())
    assert all("_causal_a" in p and p.endswith("_group.co") for p in found["fmha_bwd_dqdkdv"].refused)


@pytest.mark.usefixtures("_files")
@pytest.mark.parametrize("arch", ARCHS)
def test_every_kernel_of_an_op_is_counted_once(arch):
    listed = [path for v in coverage.variants(arch) for path in v.objects]
    shared = {path for path, n in Counter(listed).items() if n > 1}
    tables = {v.name for v in coverage.variants(arch) if v.objects & shared}
    assert all("blockscale" in name for name in tables)  # the only ones that AITER lists twice
    unlisted = {row.path for adapter in adapters().values() for row in adapter.unlisted(arch)}
    assert unlisted <= coverage.selectable(arch)
    assert not unlisted & shared


@pytest.mark.usefixtures("_files")
def test_the_command_lists_what_can_be_selected_and_did_not_run(record, monkeypatch, capsys, tmp_path):
    removed = min(path for path in coverage.selectable("gfx950") if coverage.outcome_of(path, record))
    file = tmp_path / "record.json"
    file.write_text(json_by_line({key: found for key, found in record.items() if key != coverage.hash_of(removed)}))
    monkeypatch.setattr(sys, "argv", ["coverage", "--record", str(file)])
    coverage.main()
    lines = capsys.readouterr().out.splitlines()
    missing = {path for arch in ARCHS for path in coverage.selectable(arch) if coverage.outcome_of(path, record) is None}
    assert {line for line in lines if line.startswith("- hsa/")} == {f"- {path}" for path in {removed, *missing}}
    assert lines.count(coverage.HEADER) == len(ARCHS)


@pytest.mark.usefixtures("_files")
@pytest.mark.parametrize("served", [False, True])
def test_the_reasons_count_what_cannot_be_selected_whether_an_op_takes_its_table_or_not(record, here, served):
    """Together with what can be, it is all that AITER ships."""
    for arch in ARCHS:
        found = coverage.figures(arch, record, here, served=served)
        objects, _, selectable, *_ = found.whole
        lines = coverage.markdown(arch, [found]).splitlines()
        assert f"Not selectable ({objects - selectable}):" in lines
        reasons = [re.fullmatch(r"- (\d+) objects?: (.*)\. (.*)", line) for line in lines if line.startswith("- ")]
        assert sum(int(r[1]) for r in reasons if r) == objects - selectable
        for why in filter(None, reasons):
            assert int(why[1]) == sum(int(table.rpartition(" ")[2]) for table in why[3].split("; "))


@pytest.mark.usefixtures("_files")
@pytest.mark.parametrize("arch", ARCHS)
def test_every_object_that_can_be_selected_waits_for_loads(arch):
    """One of AITER's has `s_waitcnt vmcnt(63)`, which waits for nothing, in every place."""
    folder = location().place("hsa").parent
    assert not [path for path in coverage.selectable(arch) if waits_for_none(folder / path)]


def waits_for_none(path):
    """Many loads (BUFFER, GLOBAL), and no s_waitcnt whose vmcnt is below the most there is."""
    content = path.read_bytes()
    words = np.frombuffer(content[: len(content) // 4 * 4], "<u4")
    waits = words[words >> 16 == 0xBF8C]
    loads = np.isin(words >> 26, (0b111000, 0b110111)).sum()
    return loads > 16 and ((waits & 0xF | waits >> 10 & 0x30) == 63).all()


@pytest.mark.usefixtures("_files")
def test_newer_records_are_merged():
    refused = next(path for v in coverage.variants("gfx942") for path, why in v.refused.items() if why != coverage.UNLISTED)
    paths = [*sorted(coverage.selectable("gfx942"))[:3], refused]
    first, second, third, fourth = map(coverage.hash_of, paths)
    another_release = "0" * 32
    old = {key: entry("agreed") for key in (first, second, fourth, another_release)} | {third: entry("executed")}
    new = {first: entry("executed"), second: entry("differed"), third: entry("agreed")}
    found = coverage.merged(old, new)
    assert [found[key].get("outcome") for key in (first, second, third)] == ["agreed", "differed", "agreed"]
    assert found[fourth].keys() == {"arch", "defects"}, "what no call can select did not run"
    assert found[another_release] == entry("agreed")


def _cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_documentation_says_what_the_command_prints(record, here):
    """Of the release that is here: its column, and what stands above and below the table."""
    if here.release not in (PYPI_RELEASE, AITER_COMMIT):
        skip_without_aiter(f"of {PYPI_RELEASE} or {AITER_COMMIT}, here is {here.release}")
    text = DOC.read_text()
    for arch, end in itertools.zip_longest(ARCHS, ARCHS[1:]):
        found = coverage.figures(arch, record, here, served=True)
        assert found.rest == (), "every object that can be selected was executed"
        report = text[text.index(f"\n{arch}, ") : text.index(f"\n{end}, ") if end else None].splitlines()
        header, _, *rows = (_cells(line) for line in report if line.startswith("|"))
        column = header.index(found.release)
        assert {tuple(row[:3]): row[column] for row in rows if row[column]} == {
            key: " / ".join(map(str, counts)) for key, counts in found.counts.items()
        }
        first, *lines = coverage.markdown(arch, [found]).splitlines()
        assert first in report
        (start,) = (i + 2 for i, line in enumerate(report) if line.startswith(f"Not selectable in {found.release} ("))
        assert list(itertools.takewhile(bool, report[start:])) == [line for line in lines if line.startswith("- ")]


def test_the_command_prints_a_column_for_each_release(here, monkeypatch, capsys, tmp_path):
    """Of the second there is but one family."""
    where, family = location(), "hsa/gfx942/topksoftmax"
    for name in ("whole", "part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "aiter").symlink_to(where.place("aiter"))
    (tmp_path / "whole/hsa").symlink_to(where.place("hsa"))
    shutil.copytree(where.place(family), tmp_path / "part" / family)
    monkeypatch.setattr(sys, "argv", ["coverage", "--source", str(tmp_path / "whole"), "--source", str(tmp_path / "part")])
    coverage.main()
    lines = capsys.readouterr().out.splitlines()
    release = coverage.short(here.release)
    assert lines.count(f"| family | variant | ops | {release} | {release} |") == len(ARCHS)
    rows = [cells for line in lines if line.startswith("|") and len(cells := _cells(line)) == 5]
    (whole, part) = next(cells for cells in rows if cells[:2] == ["topksoftmax", "topksoftmax"])[3:]
    assert whole == part
    assert all(cells[4] == "" for cells in rows if cells[0].startswith("fmoe"))


@pytest.fixture
def newer(_files, tmp_path):
    """Two families of the release that is here as a newer one might have them: an altered object, a new one, a longer table."""
    where, table = location(), "hsa/gfx942/fmoe/silu/fmoe_bf16_pertokenFp8_g1u1_silu.csv"
    for family in ("hsa/gfx942/topksoftmax", "hsa/gfx942/fmoe/silu"):
        shutil.copytree(where.place(family), tmp_path / family)
    (tmp_path / "aiter").symlink_to(where.place("aiter"))
    altered = tmp_path / kernels("gfx942", "fmoe/silu/fmoe_bf16_pertokenInt8_g1u1_silu.csv")[0].path
    altered.write_bytes(altered.read_bytes() + b"\0")
    (tmp_path / "hsa/gfx942/topksoftmax/topksoftmax_new.co").write_bytes(b"a new kernel")
    with (tmp_path / table).open("a") as file:
        file.write("a new row\n")
    return tmp_path, altered, table


@pytest.mark.parametrize("several", [False, True])
def test_of_a_newer_release_the_unknown_objects_are_refused_one_by_one_and_counted(newer, several, monkeypatch, capsys, tmp_path):
    folder, altered, table = newer
    before = coverage.variants("gfx942")
    with config(source=str(folder)):
        after = {(v.family, v.name): v for v in coverage.variants("gfx942")}
    unlike = {path: why for v in after.values() for path, why in v.refused.items() if why == coverage.UNKNOWN}
    assert set(unlike) == {altered.relative_to(folder).as_posix(), "hsa/gfx942/topksoftmax/topksoftmax_new.co"}
    for was in before:
        if was.family == "topksoftmax":
            assert after[was.family, was.name] == was, "what is known is used"
    (was,) = [v for v in before if v.name == "fmoe_bf16_pertokenInt8_g1u1_silu"]
    assert after[was.family, was.name].selectable == was.selectable - set(unlike)
    (was,) = [v for v in before if table.endswith(f"/{v.name}.csv")]
    assert not after[was.family, was.name].objects, "of a table that is not known no row is read"
    left = after["fmoe/silu", "not in its table"]
    assert {left.refused[path] for path in was.objects & left.objects} == {f"{coverage.NO_TABLE}{table}"}

    monkeypatch.setattr(sys, "argv", ["coverage", "--all", *("--source", str(folder)) * (1 + several)])
    coverage.main()
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"- 2 objects: {coverage.UNKNOWN}. ") for line in lines)
    rows = [_cells(line) for line in lines if line.startswith("| ")]
    column = rows[0].index(f"{rows[0][3]}, unknown" if several else "unknown")
    counts = {(row[0], row[1]): row[column] for row in rows if row[0].startswith(("fmoe", "topk"))}
    assert {key: n for key, n in counts.items() if n != "0"} == {
        ("fmoe/silu", "fmoe_bf16_pertokenInt8_g1u1_silu"): "1",
        ("topksoftmax", "not in its table"): "1",
    }


def test_a_newer_release_takes_nothing_from_the_record_and_is_used_if_that_is_asked_for(newer, record):
    folder, altered, _ = newer
    path = altered.relative_to(folder).as_posix()
    with config(source=str(folder)):
        merged = coverage.merged(record)
        assert path not in coverage.selectable("gfx942")
        with config(unverified=True):
            assert path in coverage.selectable("gfx942")
    assert merged == record
