"""What surrounds the choice of a kernel by estimates: the tables' history, groups of kernels, regret; the analytic path."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("vgpu.devices", reason="the virtual device is not installed")

from benchmarks.virtual_time import analytic, choice, history, report

HEAD = "cu_num,M,N,K,q_dtype_w,kernelId,splitK,us,kernelName,tflops,bw,errRatio"
TABLE = "aiter/configs/a8w8_bpreshuffle_tuned_gemm.csv"


def line(m: int, us: float, kernel: str, split: int = 1) -> str:
    return f"304,{m},128,512,torch.int8,0,{split},{us},_ZN5aiter{kernel},1,1,0.0"


def commit(repository: Path, name: str, *lines: str) -> None:
    path = repository / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([HEAD, *lines, ""]))
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", str(repository), "add", "-A"], check=True)
    subprocess.run(["git", "-C", str(repository), *who, "commit", "-qm", "tuned"], check=True)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    commit(tmp_path, TABLE, line(16, 10.0, "A"), line(32, 20.0, "A"))
    commit(tmp_path, TABLE, line(16, 8.0, "B"), line(32, 20.5, "A"))  # tuned anew: another kernel, and the same one
    commit(tmp_path, TABLE, line(16, 8.0, "BRenamed"), line(32, 19.0, "A", split=2), line(64, "inf", "A"))
    commit(tmp_path, TABLE.replace("tuned", "untuned"), line(128, 1.0, "C"))
    return tmp_path


def test_every_state_of_a_table_is_read(clone):
    states = list(history.states(clone))
    assert [name for name, _ in states] == ["a8w8_bpreshuffle_tuned_gemm.csv"] * 3
    assert b"BRenamed" in states[0][1]  # the newest first
    found = history.rows(clone)
    assert {(r.m, r.kernel[9:], r.split, r.us) for r in found} == {
        (16, "A", 1, 10.0), (32, "A", 1, 20.0), (16, "B", 1, 8.0), (32, "A", 1, 20.5), (16, "BRenamed", 1, 8.0), (32, "A", 2, 19.0),
    }  # fmt: skip
    assert {r.device for r in found} == {"mi300x"}


def test_a_clone_that_lacks_a_table_is_refused(clone):
    blob = subprocess.run(
        ["git", "-C", str(clone), "rev-parse", f"HEAD:{TABLE}"], capture_output=True, text=True, check=True
    ).stdout
    (clone / ".git/objects" / blob[:2] / blob[2:].strip()).unlink()
    with pytest.raises((ValueError, subprocess.CalledProcessError)):
        history.rows(clone)


def test_kernels_of_one_call_are_grouped_and_renamed_ones_are_one(clone):
    groups = {g.kernels[0][0].m: g for g in history.groups(history.rows(clone))}
    assert {(row.kernel[9:], times) for row, times in groups[16].kernels} == {("BRenamed", (8.0,)), ("A", (10.0,))}
    assert {(row.split, times) for row, times in groups[32].kernels} == {(2, (19.0,)), (1, (20.0, 20.5))}
    assert "1 pairs of times" in choice.spread(groups.values())


def test_the_choice_is_that_of_the_least_estimate():
    found = choice.outcome("x", published=[10.0, 8.0, 8.3], estimates=[5.0, 6.0, 7.0])
    assert found.regret == pytest.approx(0.25)
    assert found.near == [False, True, True]
    right = choice.outcome("x", published=[10.0, 8.0, 8.3], estimates=[7.0, 6.0, 5.0])
    assert right.regret == pytest.approx(0.0375)
    assert right.near[0]
    alike = choice.outcome("x", published=[10.0, 10.1], estimates=[2.0, 1.0])  # says nothing: either would do
    last = choice.report([found, right, alike]).splitlines()[-1]
    assert last == "| all | 3 | 67% | 78% | 3.8% | 20.8% | 2 | 50% |"


def test_the_analytic_constants_are_found_again():
    rng = np.random.default_rng(0)
    shapes = np.stack([2.0 ** rng.integers(4, 14, 300), 128.0 * rng.integers(1, 64, 300), 128.0 * rng.integers(1, 64, 300)], 1)
    tiles = np.repeat([[64.0, 64.0, 128.0], [128.0, 128.0, 128.0], [16.0, 64.0, 256.0]], 100, 0)
    made = [4.0, 1500.0, 12.0, 100.0, 3e6, 900.0]
    times = analytic.estimates(made, shapes, tiles)
    rows = [
        analytic.Product(tuple(map(int, s)), tuple(map(int, t)), float(us)) for s, t, us in zip(shapes, tiles, times, strict=True)
    ]
    found = analytic.estimates(analytic.fit(rows), shapes, tiles)
    assert np.median(np.abs(np.log(found / times))) < 0.01
    assert 100 < sum(r.fitted for r in rows) < 200
    assert analytic.nearest(rows, rows[7].shape).shape == rows[7].shape


def test_one_table_of_a_page_is_made_anew():
    page = "head\n<!-- ops -->\nold\n\n<!-- layers -->\nkept\n"
    assert report.replaced(page, "<!-- ops -->", "new") == "head\n<!-- ops -->\n\nnew\n\n<!-- layers -->\nkept\n"
    assert report.replaced(page, "<!-- layers -->", "new") == "head\n<!-- ops -->\nold\n\n<!-- layers -->\n\nnew\n"
    with pytest.raises(ValueError, match="no such mark"):
        report.replaced(page, "<!-- else -->", "new")
