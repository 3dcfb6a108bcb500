"""A server of the tiny model on a port of this machine, as uvicorn runs it."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import openai
import uvicorn

from examples.llm.serving import app
from examples.llm.serving.engine import Engine
from examples.llm.serving.worker import Worker

NAME = "tiny"


class Live(NamedTuple):
    url: str
    engine: Engine
    worker: Worker

    def client(self, **options: Any) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", **{"api_key": "none", "max_retries": 0, **options})

    def metrics(self) -> dict[str, float]:
        lines = httpx.get(f"{self.url}/metrics").text.splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))}

    def wait(self, what, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, "this does not come"
            time.sleep(0.01)

    def idle(self) -> bool:
        return not self.engine.busy and self.worker.live == 0


@contextlib.contextmanager
def served(engine: Engine, **options: Any) -> Iterator[Live]:
    made = app.build(engine, name=NAME, **options)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(made, log_level="warning", timeout_graceful_shutdown=5))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        live = Live(f"http://127.0.0.1:{port}", engine, made.state.worker)
        try:
            live.wait(lambda: server.started or not thread.is_alive())
            yield live
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()
