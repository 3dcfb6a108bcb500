"""The HIP and CUDA drivers against stand-ins for their libraries: which calls they make, and what they report.

The stand-ins work on host memory and keep the real drivers' rules about current devices and contexts. They also have
the functions that allocate or wait, and log any use of them.
"""

import json
import re
import subprocess
import sys

import pytest

from tests.plan.compiler import CPP, ROOT, build

LIBRARIES = {"hip": "libamdhip64.so.7", "cuda": "libcuda.so.1"}


def report_of(driver: str, library: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-m", "tests.plan.driver_script", driver, library],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=4"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module", params=["hip", "cuda"])
def driver(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def report(driver, tmp_path_factory) -> dict:
    library = tmp_path_factory.mktemp(driver) / LIBRARIES[driver]
    build(library, [CPP / f"fake_{driver}.cc"], "-shared", "-fPIC", "-O1")
    return report_of(driver, str(library))


ENQUEUE = ["memset32 8", "launch add 3 2 1 64 1 1 0 args 28"]


def without_set(calls: list[str]) -> list[str]:
    return [c for c in calls if not c.startswith("set ")]


def test_data_and_calls(report, driver):
    load = ["load on 0"] if driver == "hip" else ["retain 0", "load on 0"]
    assert report["first"] == {"outcome": list(range(7, 15)), "calls": load + ENQUEUE}


def test_second_execution_only_enqueues(report):
    assert report["again"] == {"outcome": list(range(7, 15)), "calls": ENQUEUE}


def test_other_device_loads_there_and_restores(report, driver):
    calls = report["other device"]["calls"]
    assert report["other device"]["outcome"] == list(range(7, 15))
    assert "load on 1" in calls
    assert without_set(calls)[-2:] == ENQUEUE
    if driver == "hip":
        assert calls == ["set 1", "load on 1", "set 0", "set 1", *ENQUEUE, "set 0"]


def test_nothing_allocates_or_waits(report):
    assert not [c for scenario in report.values() for c in scenario["calls"] if "FORBIDDEN" in c]


@pytest.mark.parametrize(
    ("scenario", "message"),
    [
        ("bad image", r"step 1, kernel add, .*: loading code object .*: (hip|cu)ModuleLoadData failed: .*as the stand-in says"),
        ("missing symbol", r"kernel absent, .*: (hip|cu)ModuleGetFunction failed: .* \(500\): as the stand-in says"),
        (
            "failing launch",
            r"op op \(mock\), step 1, kernel fails, grid \(3, 2, 1\), block \(64, 1, 1\), shared 0: (HIP|CUDA) reports "
            r"(hipErrorLaunchFailure|CUDA_ERROR_LAUNCH_FAILED) \(719\): as the stand-in says",
        ),
        ("missing device", "HIP device 2, there are 2|cuDeviceGet failed"),
    ],
)
def test_errors(report, driver, scenario, message):
    # The stand-in for CUDA gives "fails" one parameter; ours has four, which is found before launching.
    if (driver, scenario) == ("cuda", "failing launch"):
        message = "passes 4 parameters, the kernel takes 1"
    assert re.search(message, report[scenario]["outcome"]), report[scenario]["outcome"]


def test_fill_widths(report):
    assert report["fill16"]["calls"][0] == "memset16 16"
    assert report["fill16"]["outcome"] == [i + 0x00070007 for i in range(8)]


def test_large_shared_memory_is_allowed_on_cuda(report, driver):
    if driver == "hip":  # nothing to raise there
        assert report["large shared"]["calls"] == ["memset32 8", "launch add 3 2 1 64 1 1 100000 args 28"]
        return
    assert report["large shared"]["calls"] == ["shared limit 100000", "memset32 8", "launch add 3 2 1 64 1 1 100000 args 28"]
    assert report["larger shared"]["outcome"] == list(range(7, 15))
    assert report["larger shared"]["calls"][0] == "shared limit 120000"
    assert report["less shared"]["calls"] == ["memset32 8", "launch add 3 2 1 64 1 1 60000 args 28"]  # never lowered
    assert "232449 bytes of shared memory per block, the device has 232448" in report["too much shared"]["outcome"]


def test_kernel_limits_are_checked_on_cuda(report, driver):
    if driver == "hip":  # no query for the layout there; the launch goes out as the plan says
        assert report["large block"]["calls"][-1] == "launch add 3 2 1 512 1 1 0 args 28"
        assert report["wrong parameter"]["calls"][-1] == "launch add 3 2 1 64 1 1 0 args 32"
        return
    assert "512 threads per block, this kernel allows 256" in report["large block"]["outcome"]
    assert "parameter 3 is 8 bytes at offset 24, the kernel expects 4 at 24" in report["wrong parameter"]["outcome"]


def test_without_a_driver_library(driver):
    message = report_of(driver, "none")["no library"]
    stem = LIBRARIES[driver].split(".so")[0]
    assert re.search(rf"no GPU driver library: {stem}\S* is not loaded and none of these can be: {stem}", message), message


def test_hip_without_16_bit_fill(tmp_path):
    library = tmp_path / LIBRARIES["hip"]
    build(library, [CPP / "fake_hip.cc"], "-shared", "-fPIC", "-DWITHOUT_MEMSET_D16")
    report = report_of("hip", str(library))
    assert report["first"]["outcome"] == list(range(7, 15))
    assert "step 0, fill of scratch[0] (32 bytes): HIP reports hipErrorOther (801)" in report["fill16"]["outcome"]
