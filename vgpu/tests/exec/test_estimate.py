"""The estimate of time on kernels whose time is known by hand; what it samples; tables; that it is deterministic."""

from __future__ import annotations

import ctypes
from pathlib import Path

import assembler
import pytest
from programs import PROLOGUE, arguments, source

from vgpu import cli, devices
from vgpu.environment import Options, environment

# Everything that is not what a test is about takes no time: cycles can be counted by hand.
QUIET = {
    "launch_us": 0, "fetch_cycles": 0, "branch_cycles": 0, "barrier_cycles": 0, "group_cycles": 0, "scalar_latency": 0,
    "l1_latency": 0, "l2_latency": 0, "mall_ns": 0, "hbm_ns": 0, "lds_latency": 0, "matrix_clock": 1, "matrix_result_cycles": 0,
}  # fmt: skip
COUNT = 200


@pytest.fixture
def device():
    return devices.load("mi300x").with_values(**QUIET)


@pytest.fixture
def bench(library, monkeypatch):
    monkeypatch.setenv("VGPU_LIBRARY_DIR", str(library.parent))
    if not (library.parent / "libamdhip64.so.7").exists():
        pytest.skip("a build of the interpreter alone")
    from vgpu.estimate import Bench

    return Bench("gfx942")


def run(bench, device, body: str, *, grid=(1, 1, 1), block=(64, 1, 1), buffers=(), samples=2, lds=0, vgprs=32):
    text = source("k", body, lds).replace(".amdhsa_next_free_vgpr 32", f".amdhsa_next_free_vgpr {vgprs}")
    text = text.replace("workgroup_id_x 1", "workgroup_id_x 1\n  .amdhsa_system_sgpr_workgroup_id_z 1")  # s2, s3
    text = text.replace(".amdhsa_accum_offset 32", f".amdhsa_accum_offset {min(vgprs, 256)}")
    module = bench.load(assembler.assemble(text, "gfx942"))
    return bench.estimate(device, module, "k", arguments(*buffers), grid, block, samples=samples)


def cycles(bench, device, line: str, **more) -> float:
    """Of one repetition of `line`."""
    few, many = (run(bench, device, "\n".join([line] * n), **more)["cycles"] for n in (COUNT, 3 * COUNT))
    return (many - few) / (2 * COUNT)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("v_add_f32 v1, v2, v3", 4),
        ("s_add_u32 s8, s9, s10", 4),
        ("v_exp_f32 v1, v2", 16),
        ("s_nop 7", 32),
        ("v_mfma_f32_16x16x16_f16 v[0:3], v[4:5], v[6:7], v[0:3]", 16),
        ("v_mfma_f32_32x32x8_f16 v[0:15], v[16:17], v[18:19], v[0:15]", 32),
        ("v_mfma_f32_16x16x16_f16 v[0:3], v[4:5], v[6:7], v[0:3]\n v_add_f32 v20, v21, v22\n v_add_f32 v20, v21, v22", 16),
    ],
)
def test_an_instruction_takes_the_documents_cycles(bench, device, line, expected):
    assert cycles(bench, device, line) == pytest.approx(expected)


def test_a_matrix_instruction_waits_for_the_result_that_it_adds_to(bench, device):
    slow = device.with_values(matrix_result_cycles=12)
    line = "v_mfma_f32_16x16x16_f16 v[{0}:{1}], v[16:17], v[18:19], v[{0}:{1}]"
    assert cycles(bench, slow, line.format(0, 3)) == pytest.approx(28)
    assert cycles(bench, slow, line.format(0, 3) + "\n" + line.format(4, 7)) == pytest.approx(32)


@pytest.mark.parametrize(("waves", "factor"), [(1, 1), (4, 1), (8, 2), (16, 4)])
def test_waves_share_the_four_simds(bench, device, waves, factor):
    matrix = "v_mfma_f32_16x16x16_f16 v[0:3], v[4:5], v[6:7], v[0:3]"
    assert cycles(bench, device, matrix, block=(64 * waves, 1, 1)) == pytest.approx(16 * factor)


def test_matrix_work_of_one_wave_hides_vector_work_of_another(bench, device):
    line = "v_mfma_f32_16x16x16_f16 v[0:3], v[4:5], v[6:7], v[0:3]\n v_add_f32 v20, v21, v22"
    assert cycles(bench, device, line, block=(512, 1, 1)) == pytest.approx(32)


@pytest.mark.parametrize(
    ("shift", "read", "expected"),
    [(2, "ds_read_b32 v1, v2", 2), (3, "ds_read_b32 v1, v2", 4), (7, "ds_read_b32 v1, v2", 64), (4, "ds_read_b128 v[4:7], v2", 8)],
)
def test_lds_takes_a_cycle_for_each_row_that_a_bank_holds(bench, device, shift, read, expected):
    """Lanes `1 << shift` bytes apart."""
    start = f"v_lshlrev_b32 v2, {shift}, v0\n"
    few, many = (run(bench, device, start + "\n".join([read] * n) + "\n s_waitcnt lgkmcnt(0)", lds=32768) for n in (50, 150))
    assert (many["cycles"] - few["cycles"]) / 100 == pytest.approx(max(expected, 4))


def test_lds_is_one_for_all_waves(bench, device):
    body = "v_lshlrev_b32 v2, 4, v0\n" + "ds_read_b128 v[4:7], v2\n" * 100 + "s_waitcnt lgkmcnt(0)"
    one, four = (run(bench, device, body, lds=32768, block=(64 * n, 1, 1))["cycles"] for n in (1, 4))
    assert four == pytest.approx(4 * one, rel=0.02)


def test_a_wait_takes_the_latency_and_work_before_it_hides_it(bench, device):
    slow, buffer = device.with_values(lds_latency=1000), bench.allocate(1 << 16)
    body = "v_lshlrev_b32 v2, 2, v0\n ds_read_b32 v1, v2\n {} s_waitcnt lgkmcnt(0)\n v_add_f32 v3, v1, v1"
    waits, works = (run(bench, slow, body.format("v_mul_f32 v4, v5, v6\n" * n), lds=4096)["cycles"] for n in (0, 200))
    assert waits > 1000
    assert works - waits < 40
    far = device.with_values(hbm_ns=1000)
    body = PROLOGUE + "global_load_dword v3, v1, s[4:5]\n {} s_waitcnt vmcnt({})\n v_add_f32 v3, v3, v3"
    waits, none = (run(bench, far, body.format("", n), buffers=[buffer])["cycles"] for n in (0, 1))
    assert waits - none == pytest.approx(2100, rel=0.05)


def test_a_barrier_waits_for_the_slowest_wave(bench, device):
    body = "v_readfirstlane_b32 s8, v0\n s_cmp_lg_u32 s8, 0\n s_cbranch_scc1 L\n" + "v_exp_f32 v1, v2\n" * 100 + "L: s_barrier\n"
    alone = run(bench, device, body)["cycles"]
    found = run(bench, device, body + "v_exp_f32 v1, v2\n" * 100, block=(256, 1, 1))
    assert found["cycles"] == pytest.approx(2 * alone, rel=0.05)
    assert found["wait_barrier"] > 1


def test_a_taken_branch_and_new_code_cost_what_the_table_says(bench, device):
    loop = "s_mov_b32 s8, 100\nL: s_sub_u32 s8, s8, 1\n s_cmp_lg_u32 s8, 0\n s_cbranch_scc1 L\n"
    base = run(bench, device, loop)["cycles"]
    assert run(bench, device.with_values(branch_cycles=20), loop)["cycles"] == base + 99 * 20
    fetched = run(bench, device.with_values(fetch_cycles=10), "s_nop 0\n" * 160)["cycles"]
    assert fetched - run(bench, device, "s_nop 0\n" * 160)["cycles"] == pytest.approx(100, abs=10)


@pytest.mark.parametrize(("vgprs", "lds", "resident"), [(32, 0, 8), (128, 0, 4), (256, 0, 2), (512, 0, 1), (32, 20000, 3)])
def test_registers_and_lds_bound_the_workgroups_of_a_compute_unit(bench, device, vgprs, lds, resident):
    found = run(bench, device, "v_mov_b32 v1, 0", vgprs=vgprs, lds=lds, block=(256, 1, 1))
    assert found["resident"] == resident


def test_a_grid_goes_over_the_compute_units_in_rounds(bench, device):
    body = "v_exp_f32 v1, v2\n" * 400  # one wave fills a SIMD, so rounds add up whatever is resident
    times = {n: run(bench, device, body, grid=(n, 1, 1), block=(256, 1, 1))["cycles"] for n in (1, 304, 305, 304 * 40)}
    assert times[304] == times[1]
    assert times[305] == pytest.approx(2 * times[1], rel=0.01)
    assert times[304 * 40] == pytest.approx(40 * times[1], rel=0.05)


# Every work-item of workgroup x loads one dword of a row of its own, of 256 bytes; s8 rows apart.
STREAM = PROLOGUE + "s_lshl_b32 s9, s2, {}\n v_add_u32 v1, s9, v1\n" + "global_load_dword v3, v1, s[4:5]\n s_waitcnt vmcnt(0)\n"


def test_bytes_of_memory_are_distinct_lines_of_the_whole_grid(bench, device):
    buffer, groups = bench.allocate(304 * 256), 304
    own = run(bench, device, STREAM.format(8), grid=(groups, 1, 1), buffers=[buffer])
    same = run(
        bench, device, STREAM.format(0).replace("s_lshl_b32 s9, s2, 0", "s_mov_b32 s9, 0"), grid=(groups, 1, 1), buffers=[buffer]
    )
    assert own["hbm_bytes"] == pytest.approx(groups * 256, rel=0.02)
    assert same["hbm_bytes"] == pytest.approx(256, rel=0.6)
    assert same["fabric_bytes"] == pytest.approx(8 * 256, rel=0.6)  # each die fetches it
    assert own["bound"] == "hbm"


def test_memory_bounds_a_kernel_that_does_nothing_else(bench, device):
    rows = 64
    body = PROLOGUE + "s_lshl_b32 s9, s2, 14\n v_add_u32 v1, s9, v1\n"
    body += "".join(f"global_load_dword v3, v1, s[4:5] offset:{256 * i}\n" if i < 16 else "" for i in range(rows))
    body += "s_waitcnt vmcnt(0)\n"
    groups = 304 * 32
    buffer = bench.allocate(groups << 14)
    found = run(bench, device, body, grid=(groups, 1, 1), buffers=[buffer])
    rate = device.values["hbm_bytes_per_second"] * device.values["hbm_efficiency"]
    assert found["us"] == pytest.approx(groups * 16 * 256 / rate * 1e6, rel=0.1)


def test_workgroups_that_end_at_once_do_not_count(bench, device):
    body = "s_cmp_ge_u32 s2, 30\n s_cbranch_scc1 L\n" + "v_exp_f32 v1, v2\n" * 300 + "L: s_nop 0\n"
    found = run(bench, device, body, grid=(300, 1, 1))
    assert found["long_groups"] == 30
    assert found["sampling_error"] == 0
    large = run(bench, device, body.replace("30\n", "3000\n", 1), grid=(30000, 1, 1))
    assert large["long_groups"] == pytest.approx(3000, rel=0.3)
    assert 0 < large["sampling_error"] < 0.3


@pytest.mark.parametrize("running", [1, 3])
def test_workgroups_of_a_column_that_end_at_once_do_not_count(bench, device, running):
    """As those of packed attention behind the end of their sequence do."""
    body = f"s_cmp_ge_u32 s3, {running}\n s_cbranch_scc1 L\n" + "v_exp_f32 v1, v2\n" * 300 + "L: s_nop 0\n"
    found = run(bench, device, body, grid=(40, 2, 8))
    assert found["long_groups"] == 40 * 2 * running
    assert found["sampling_error"] == 0


def test_columns_that_differ_in_how_many_run_on_are_a_sample(bench, device):
    """Of column x those with z <= x / 128."""
    body = "s_lshr_b32 s8, s2, 7\n s_cmp_gt_u32 s3, s8\n s_cbranch_scc1 L\n" + "v_exp_f32 v1, v2\n" * 300 + "L: s_nop 0\n"
    found = run(bench, device, body, grid=(1024, 1, 8), samples=16)
    assert found["long_groups"] == pytest.approx(128 * 36, rel=3 * found["sampling_error"])
    assert 0.05 < found["sampling_error"] < 0.25


def test_what_is_traced_of_a_column_may_be_longer_than_the_rest(bench, device):
    body = "v_exp_f32 v1, v2\n" * 200 + "s_cmp_eq_u32 s3, 0\n s_cbranch_scc0 L\n" + "v_exp_f32 v1, v2\n" * 200 + "L: s_nop 0\n"
    found = run(bench, device, body, grid=(40, 1, 4))
    # The first one's neighbour along z is traced too.
    assert found["sampling_error"] == pytest.approx(1 - (400 + 3 * 200) / (4 * 400), rel=0.1)


# Workgroup i goes round 4 (i + 1) times, as those of a causal kernel do, which see more keys the later their queries are.
UNEVEN = """
  s_add_u32 s8, s2, 1
  s_lshl_b32 s8, s8, 2
loop:
  v_exp_f32 v1, v2
  v_exp_f32 v1, v2
  s_sub_u32 s8, s8, 1
  s_cmp_lg_u32 s8, 0
  s_cbranch_scc1 loop
"""


@pytest.mark.parametrize("samples", [8, 64])
def test_a_launch_lasts_as_long_as_its_longest_workgroup(bench, device, samples):
    """64 workgroups, one on a compute unit: however short the mean is."""
    found = run(bench, device, UNEVEN, grid=(64, 1, 1), samples=samples)
    assert found["groups_per_unit"] == 1
    assert found["cycles"] == pytest.approx(64 * 4 * 2 * 16, rel=0.15 if samples == 8 else 0.02)


def test_the_same_launch_has_the_same_estimate(bench, device):
    texts = {str(run(bench, device, STREAM.format(8), grid=(50, 1, 1), buffers=[bench.allocate(1 << 16)])) for _ in range(3)}
    assert len(texts) == 1


def test_one_sample_serves_other_devices(bench, device):
    body = "v_exp_f32 v1, v2\n" * 300
    found = run(bench, device, body, grid=(304, 1, 1))
    sample = bench.sample()
    assert sample.estimate(device) == found
    assert sample.estimate(device.with_values(compute_units=152))["cycles"] > found["cycles"] - 1
    assert sample.estimate(device.with_values(clock_ghz=1.05))["us"] == pytest.approx(2 * found["us"])
    with pytest.raises(RuntimeError, match="line size"):
        sample.estimate(device.with_values(line_bytes=64))


@pytest.mark.parametrize("name", devices.names())
def test_every_number_of_a_device_says_where_it_comes_from(name):
    found = devices.load(name)
    assert found.arch in ("gfx942", "gfx950")
    assert set(found.values) == set(found.origins)
    assert all(origin.split(":")[0] in devices.ORIGINS for origin in found.origins.values())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t + " speed=1", "speed is not known"),
        (lambda t: t.replace("clock_ghz", "clock"), "is missing|is not known"),
        (lambda t: t + " clock_ghz=1", "given twice"),
        (lambda t: t.replace("dies=8.0", "dies=x"), "is not name=number"),
        (lambda t: t.replace("dies=8.0", "dies=0"), "zero"),
    ],
)
def test_a_table_is_whole_or_refused(bench, device, change, words):
    class Changed:
        def text(self):
            return change(device.text())

    with pytest.raises(RuntimeError, match=words):
        run(bench, Changed(), "s_nop 0")


def test_options_name_the_device(tmp_path, library, monkeypatch):
    monkeypatch.setenv("VGPU_LIBRARY_DIR", str(library.parent))
    if not (library.parent / "libamdhip64.so.7").exists():
        pytest.skip("a build of the interpreter alone")
    found = environment(Options(estimate=str(tmp_path / "f"), device="mi308x"), {})
    assert "compute_units=80.0" in found["VGPU_ESTIMATE_TABLE"]
    assert "VGPU_ESTIMATE_TABLE" not in environment(Options(), found)
    with pytest.raises(ValueError, match="is of gfx950"):
        Options(device="mi355x")


@pytest.mark.parametrize("groups", [1, 5, 300])
def test_a_launch_that_is_traced_whole_runs_once(bench, device, groups):
    """What it leaves is what a device leaves: kernels that count with atomics prepare the work of the next."""
    counter = bench.allocate(4)
    body = """
  s_load_dwordx2 s[4:5], s[0:1], 0x0
  v_mov_b32 v1, 0
  v_mov_b32 v2, 1
  s_waitcnt lgkmcnt(0)
  global_atomic_add v1, v2, s[4:5]
"""
    estimate = run(bench, device, body, grid=(groups, 1, 1), buffers=(counter,), samples=groups)
    assert estimate["traced"] == groups
    assert ctypes.c_uint32.from_address(counter).value == 64 * groups


def test_the_page_on_time_has_every_number_that_the_command_prints(capsys):
    assert cli.main(["constants", "mi300x"]) == 0
    printed = capsys.readouterr().out
    for name, value in devices.load("mi300x").values.items():
        assert f"| `{name}` | {value:,.10g} |" in printed
    assert printed in (Path(__file__).parents[2] / "docs/time.md").read_text()
