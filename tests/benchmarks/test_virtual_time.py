"""What surrounds the estimates in benchmarks/virtual_time: the split of the rows, the routing, the report."""

import numpy as np
import pytest

pytest.importorskip("vgpu.devices", reason="the virtual device is not installed")

from benchmarks.virtual_time import launches, validate
from benchmarks.virtual_time.rows import Row


def row(m: int, us: float, kernel: str = "k") -> Row:
    return Row("gemm_a8w8_bpreshuffle", "gfx942", "mi300x", (("M", m), ("N", 128), ("K", 512)), kernel, 1, us, m)


def test_about_half_of_the_shapes_may_be_fitted_whatever_their_kernel():
    fitted = [row(m, 1.0).fitted for m in range(1, 401)]
    assert 150 < sum(fitted) < 250
    assert fitted == [row(m, 2.0, "other").fitted for m in range(1, 401)]


@pytest.mark.parametrize(("tokens", "topk", "experts", "block"), [(1, 1, 1, 32), (33, 2, 8, 32), (100, 8, 64, 16)])
def test_every_token_is_routed_to_distinct_experts_once(tokens, topk, experts, block):
    blocks = -(-(tokens * topk + experts * block - topk) // block)
    rows, owner, used = launches.even_routing(tokens, topk, experts, block, blocks)
    rows = rows.view(np.uint32)
    assert used % block == 0
    real = rows[rows & 0xFFFFFF != tokens]
    assert sorted(real.tolist()) == sorted(t | k << 24 for t in range(tokens) for k in range(topk))
    assert (rows[used:] & 0xFFFFFF == tokens).all()
    by_token = {}
    for place, value in enumerate(rows[:used]):
        if value & 0xFFFFFF != tokens:
            by_token.setdefault(int(value & 0xFFFFFF), []).append(int(owner[place // block]))
    assert all(len(set(found)) == topk for found in by_token.values())


def test_the_report_has_the_figures_of_known_errors():
    pairs = [(row(16, 10.0), 11.0), (row(32, 10.0), 10.0), (row(256, 10.0), 5.1), (row(512, 20.0), 60.0)]
    text = validate.report(pairs)
    small = next(line for line in text.splitlines() if "M <= 64" in line)
    large = next(line for line in text.splitlines() if "M > 64" in line)
    assert "| 2 | +5% | 4.8% | 8.6% | 100% | 100% |" in small
    assert large.endswith("| 0% | 50% |")
    assert validate.rank_correlation([(row(i, float(i)), 2.0 * i) for i in range(1, 9)]) == pytest.approx(1)


def test_a_sample_takes_one_of_each_kernel_before_any_second():
    rows = [row(m, 1.0, kernel) for m in range(1, 6) for kernel in ("a", "b", "c")]
    found = validate.drawn(rows, 2)
    assert sorted(r.kernel for r in found[:3]) == ["a", "b", "c"]
    assert len(found) == 6
