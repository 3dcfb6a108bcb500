"""`vgpu run`, the pytest plugin and the environment they set up."""

import subprocess
import sys

import pytest

import vgpu

RUN = [sys.executable, "-m", "vgpu.cli", "run"]


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*RUN, *arguments], capture_output=True, text=True, check=False)


def test_exit_status_and_arguments_are_the_commands():
    done = start("--", sys.executable, "-c", "import sys; print(sys.argv[1:]); sys.exit(3)", "--arch", "x")
    assert (done.returncode, done.stdout) == (3, "['--arch', 'x']\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arch", "gfx90a", "--", "true"], "gfx90a"),
        (["--devices", "0", "--", "true"], "devices=0: expected 1 to 64"),
        (["--check", "order", "--", "true"], "check='order'"),
        (["--memory", "-1", "--", "true"], "memory=-1.0"),
        ([], "no command given"),
    ],
)
def test_wrong_usage_is_refused(arguments, message):
    done = start(*arguments)
    assert done.returncode == 2 and message in done.stderr


def test_missing_program():
    assert start("--", "/no/such/program").returncode == 127


def test_users_xla_flags_win():
    env = vgpu.environment(vgpu.Options(), {"XLA_FLAGS": "--xla_gpu_autotune_level=2 --xla_other=1"})
    flags = env["XLA_FLAGS"].split()
    assert "--xla_gpu_autotune_level=2" in flags and "--xla_gpu_autotune_level=0" not in flags
    assert "--xla_other=1" in flags and "--xla_gpu_enable_cublaslt=false" in flags


def test_nothing_changes_outside():
    base = {"PATH": "/bin"}
    assert vgpu.environment(vgpu.Options(), base)["VGPU_ARCH"] == "gfx942"
    assert base == {"PATH": "/bin"}


def test_the_programs_own_sitecustomize_still_runs(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import builtins; builtins.own_hook = True")
    program = [sys.executable, "-c", "print(own_hook)"]
    done = vgpu.run(program, env={"PYTHONPATH": str(tmp_path), "PATH": "/bin"}, capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


def test_a_bad_variable_ends_the_process(program):
    done = subprocess.run(
        [sys.executable, "-c", "import ctypes; ctypes.CDLL('libamdhip64.so.7').hipGetDeviceCount(ctypes.byref(ctypes.c_int()))"],
        env=vgpu.environment(vgpu.Options()) | {"VGPU_CHECK": "memroy"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "VGPU_CHECK=memroy" in done.stderr


INSIDE = """
import ctypes

def test_device():
    count = ctypes.c_int()
    ctypes.CDLL("libamdhip64.so.7").hipGetDeviceCount(ctypes.byref(count))
    assert count.value == 3
"""


def test_pytest_option(tmp_path):
    test = tmp_path / "test_inside.py"
    test.write_text(INSIDE)
    plugin = ["-p", "vgpu.pytest_plugin"] if not _installed() else []
    command = [sys.executable, "-m", "pytest", "-q", *plugin, "--vgpu", "--vgpu-devices", "3", str(test)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def _installed() -> bool:
    from importlib.metadata import entry_points

    return any(entry.value == "vgpu.pytest_plugin" for entry in entry_points(group="pytest11"))
