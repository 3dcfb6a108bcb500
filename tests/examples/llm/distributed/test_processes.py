"""Serving over two processes that `jax.distributed` joins; gloo carries what they send."""

import signal

import httpx
import pytest

from examples.llm.serving.engine import run
from examples.llm.serving.request import Sampling
from examples.llm.serving.runner import Runner
from tests.examples.llm.distributed import models, spread_server, together
from tests.examples.llm.distributed.served import SETTINGS, answers
from tests.examples.llm.serving import tiny


@pytest.mark.exhaustive
def test_two_processes():
    """A session and an engine of two devices each, one of which is late; they refuse to serve with settings that differ."""
    late = 35  # more seconds than gloo waits for the first exchange
    quick = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    ranks, outputs = together.answers("expert=2,model=2", 2, late, [quick, quick])
    params = models.params()
    want, served = models.on_one(params), answers(Runner(params, models.CONFIG, SETTINGS))
    for rank, (p, out) in enumerate(zip(ranks, outputs, strict=True)):
        assert p.returncode == 0, out
        assert f"rank {rank}: 2 of 4 devices answer {want}" in out
        assert f"rank {rank}: refused, process 1: another model or other settings than process 0's" in out
    assert f"rank 0: serves {served}" in outputs[0]
    steps = int(outputs[1].rsplit("rank 1: serves ", 1)[1].split()[0])
    assert steps >= len(served[0]) + len(served[-1])  # the last request is asked after all others have ended


@pytest.mark.exhaustive
def test_a_server_of_two_processes(tmp_path):
    """It answers as one device does, and when the first ends the second does too."""
    ask = {"prompt": "seven of them", "max_tokens": 12, "temperature": 0}
    with spread_server.served(tmp_path, "--max-length 64") as server:
        model = httpx.get(f"{server.url}/v1/models").json()["data"][0]["id"]
        ask |= {"model": model}
        texts = [httpx.post(f"{server.url}/v1/completions", json=ask, timeout=60).json() for _ in range(2)]
        server.ranks[0].send_signal(signal.SIGINT)
        assert [p.wait(60) for p in server.ranks] == [0, 0], server.written()
        assert "process 0 has ended after" in server.written()[1]
    engine = tiny.engine()
    request = engine.request(engine.tokenizer.prompt(ask["prompt"]), Sampling(12, temperature=0))
    assert [t["choices"][0]["text"] for t in texts] == run(engine, [request]) * 2
