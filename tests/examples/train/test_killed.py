"""A run that is killed in the middle goes on from its last checkpoint as if it had not been: the same bits after every step."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SIZES = "--layers 1 --dim 16 --heads 2 --kv-heads 1 --experts 4 --intermediate 16 --sequence 16 --batch 4 --text examples"
RUN = f"{SIZES} --mesh expert=2 --accumulate 2 --steps 8 --save-every 2 --digests"


@pytest.fixture
def command(tmp_path):
    """Starts the command; its programs are compiled once for all runs of a test, without XLA's optimisation passes."""
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    env |= {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    env |= {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "PYTHONUNBUFFERED": "1"}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [env.get("PYTHONPATH")])])
    started = []

    def start(arguments: str) -> subprocess.Popen:
        whole = [sys.executable, "-m", "examples.train", *arguments.split()]
        process = subprocess.Popen(whole, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env, cwd=ROOT)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def digests(text: str) -> dict[int, str]:
    return {int(step): found for step, found in re.findall(r"^step (\d+): (\w+)$", text, re.MULTILINE)}


def test_a_killed_run_goes_on_to_the_bit(command, tmp_path):
    run = f"{RUN} --out {tmp_path / 'run'}"
    first, said = command(run), ""
    for line in first.stdout:
        said += line
        if line.startswith("step 7:"):  # after the checkpoint of step 6 was begun: it may be whole or not, that of step 4 is
            first.send_signal(signal.SIGKILL)
            break
    assert first.wait(60) == -signal.SIGKILL, said
    killed = digests(said)
    out, _ = (second := command(run)).communicate(timeout=400)
    assert second.returncode == 0, out
    begin = int(re.search(r"from step (\d+)$", out, re.MULTILINE)[1])
    assert begin in (4, 6), out
    again = digests(out)
    assert sorted(again) == list(range(begin + 1, 9))
    assert {step: again[step] for step in again if step in killed} == {s: d for s, d in killed.items() if s > begin}
    assert len(set(again.values())) == len(again)
    assert (tmp_path / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.exhaustive
def test_a_run_goes_on_upon_another_mesh_but_not_with_other_settings(command, tmp_path):
    run = f"{RUN} --out {tmp_path / 'run'}"
    out, _ = command(f"{run} --stop-at 3").communicate(timeout=400)
    assert "of 8: " in out
    other, _ = (process := command(f"{run} --learning-rate 1e-3")).communicate(timeout=400)
    assert process.returncode != 0
    assert "the checkpoint of step 3 is of a run with learning_rate '0.004' (now '0.001')" in other
    out, _ = (process := command(run.replace("expert=2", "model=2"))).communicate(timeout=400)
    assert process.returncode == 0, out
    assert "from step 3" in out
