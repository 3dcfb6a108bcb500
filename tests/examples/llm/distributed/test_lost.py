"""A server of two processes of which one is lost, or has nothing to do for long: whoever waits is answered, and nothing hangs."""

import os
import signal
import time
from pathlib import Path

import httpx
import openai
import pytest

from tests.examples.llm.distributed import spread_server

LENGTH = 250  # tokens of a request: its steps take seconds
LONG = {"prompt": "on and on", "max_tokens": LENGTH - 20, "temperature": 0, "extra_body": {"ignore_eos": True}}


def client(server) -> tuple[openai.OpenAI, str]:
    found = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60)
    return found, found.models.list().data[0].id


def amid(server):
    """A stream of an answer of which some has come."""
    found, model = client(server)
    stream = iter(found.completions.create(model=model, stream=True, **LONG))
    for _ in range(5):
        next(stream)
    return stream


def processor_seconds(process: int) -> float:
    """Of all its threads, since it began."""
    numbers = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")


def assert_broken(server, why: str) -> None:
    """Another request is refused, and health says why."""
    health = httpx.get(f"{server.url}/health", timeout=5)
    assert health.status_code == 503
    assert why in health.json()["error"]
    found, model = client(server)
    with pytest.raises(openai.InternalServerError, match=why):
        found.completions.create(model=model, prompt="x")


def assert_answered(server, stop: signal.Signals, why: str, seconds: float) -> None:
    """The follower is sent a signal amid a step: within so many seconds its request is answered with the reason."""
    stream = amid(server)
    server.ranks[1].send_signal(stop)
    begin = time.monotonic()
    with pytest.raises(openai.APIError, match=why):
        list(stream)
    assert time.monotonic() - begin < seconds


@pytest.mark.exhaustive
def test_a_follower_that_is_killed_amid_a_step(tmp_path):
    """The request is answered with the reason within a moment, the process that answers ends, with a status that is not 0."""
    with spread_server.served(tmp_path, f"--max-length {LENGTH}") as server:
        assert_answered(server, signal.SIGKILL, r"the engine stopped: Gone.*process 1 has ended", 10)
        assert_broken(server, "process 1 has ended")
        assert server.ranks[0].wait(30) == 1, server.written()
        assert "this process ends: process 1 has ended" in server.written()[0]


@pytest.mark.exhaustive
def test_a_follower_that_is_killed_while_nobody_asks(tmp_path):
    with spread_server.served(tmp_path, f"--max-length {LENGTH}") as server:
        server.ranks[1].kill()
        server.ranks[1].wait()
        time.sleep(1)
        assert_broken(server, "process 1 has ended")
        assert server.ranks[0].wait(30) == 1, server.written()


@pytest.mark.exhaustive
def test_a_follower_that_hangs(tmp_path):
    """Stopped, it holds its connections: it is given up after the patience, and long before `jax.distributed` would abort."""
    with spread_server.served(tmp_path, f"--max-length {LENGTH} --patience 5") as server:
        assert_answered(server, signal.SIGSTOP, r"process 1 has (said nothing for|not finished a step in) 5 s", 15)
        assert_broken(server, "process 1 has")
        assert server.ranks[0].wait(30) == 1, server.written()


@pytest.mark.exhaustive
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
@pytest.mark.parametrize("when", ["amid a step", "idle"])
def test_a_leader_that_is_lost_takes_the_others_with_it(tmp_path, stop, when):
    """By this package's link or by `jax.distributed`, whichever is first; with a status that is not 0."""
    with spread_server.served(tmp_path, f"--max-length {LENGTH} --patience 5") as server:
        stream = amid(server) if when == "amid a step" else None
        server.ranks[0].send_signal(stop)
        assert server.ranks[1].wait(30) != 0, server.written()
        del stream


@pytest.mark.exhaustive
def test_processes_that_wait_neither_end_nor_work(tmp_path):
    """For 15 times the patience, which is more than `jax.distributed`'s own of 100 s; then they answer."""
    with spread_server.served(tmp_path, f"--max-length {LENGTH} --patience 8") as server:
        found, model = client(server)
        first = found.completions.create(model=model, **LONG).choices[0].text
        before = [processor_seconds(p.pid) for p in server.ranks]
        time.sleep(120)
        spent = [processor_seconds(p.pid) - b for p, b in zip(server.ranks, before, strict=True)]
        assert max(spent) < 0.02 * 120, spent
        assert found.completions.create(model=model, **LONG).choices[0].text == first != ""
