"""Serving over two processes that `jax.distributed` joins; gloo carries what they send."""

import signal
import subprocess

import httpx
import pytest

from examples.llm.serving.engine import run
from examples.llm.serving.request import Sampling
from examples.llm.serving.runner import Runner
from tests.examples.llm.distributed import models, together
from tests.examples.llm.distributed.served import SETTINGS, answers
from tests.examples.llm.serving import tiny


@pytest.mark.exhaustive
def test_two_processes():
    """A session and an engine of two devices each; they refuse to serve with settings that differ."""
    port = str(together.free_port())
    commands = [["tests.examples.llm.distributed.processes", port, str(rank)] for rank in range(2)]
    ranks = together.start(commands, 2, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        outputs = [p.communicate(timeout=240)[0] for p in ranks]
    finally:
        for p in ranks:
            p.kill()
    params = models.params()
    want, served = models.on_one(params), answers(Runner(params, models.CONFIG, SETTINGS))
    for rank, (p, out) in enumerate(zip(ranks, outputs, strict=True)):
        assert p.returncode == 0, out
        assert f"rank {rank}: 2 of 4 devices answer {want}" in out
        assert f"rank {rank}: refused, processes [1] serve another model or with other settings than process 0" in out
    assert f"rank 0: serves {served}" in outputs[0]
    steps = int(outputs[1].rsplit("rank 1: serves ", 1)[1].split()[0])
    assert steps >= len(served[0]) + len(served[-1])  # the last request is asked after all others have ended


@pytest.mark.exhaustive
def test_a_server_of_two_processes(tmp_path):
    """Heads and columns over both; it answers as one device does, and when the first ends the second does too."""
    join, port = f"localhost:{together.free_port()}", str(together.free_port())
    common = (
        f"examples.llm.server --model {tiny.folder()} --mesh model=2 --dtype float32 --max-length 64 --block-size 8 --cache-mb 1"
    )
    common += f" --max-sequences 2 --step-tokens 16 --port {port} --coordinator {join} --processes 2 --process"
    outputs = [tmp_path / f"{rank}.txt" for rank in range(2)]
    ranks = []
    for rank, path in enumerate(outputs):
        with path.open("w") as out:
            ranks += together.start([[*common.split(), str(rank)]], 1, stdout=out, stderr=subprocess.STDOUT)
    url, ask = f"http://127.0.0.1:{port}", {"prompt": "seven of them", "max_tokens": 12, "temperature": 0}
    try:
        together.wait_for(f"{url}/health", ranks, outputs)
        model = httpx.get(f"{url}/v1/models").json()["data"][0]["id"]
        texts = [httpx.post(f"{url}/v1/completions", json={**ask, "model": model}, timeout=60).json() for _ in range(2)]
        ranks[0].send_signal(signal.SIGINT)
        assert [p.wait(60) for p in ranks] == [0, 0], [path.read_text() for path in outputs]
    finally:
        for p in ranks:
            p.kill()
    engine = tiny.engine()
    request = engine.request(engine.tokenizer.prompt(ask["prompt"]), Sampling(12, temperature=0))
    assert [t["choices"][0]["text"] for t in texts] == run(engine, [request]) * 2
    assert "process 0 has ended after" in outputs[1].read_text()
