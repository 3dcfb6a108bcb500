"""`examples.llm.server` of the tiny model over two processes."""

import contextlib
import pathlib
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import httpx

from tests.examples.llm.distributed import together
from tests.examples.llm.serving import tiny


def wait_for(url: str, processes: Sequence[subprocess.Popen], outputs: Sequence[pathlib.Path], seconds: float = 400) -> None:
    """Until a GET of `url` is answered."""
    end = time.monotonic() + seconds
    with httpx.Client(trust_env=False) as client:
        while True:
            try:
                client.get(url).raise_for_status()
                return
            except httpx.TransportError:
                alive = all(p.poll() is None for p in processes)
                assert alive, [path.read_text() for path in outputs]
                assert time.monotonic() < end, [path.read_text() for path in outputs]
                time.sleep(0.5)


class Server(NamedTuple):
    """outputs: what each process writes."""

    url: str
    ranks: list[subprocess.Popen]
    outputs: list[pathlib.Path]

    def written(self) -> list[str]:
        return [path.read_text() for path in self.outputs]


@contextlib.contextmanager
def served(folder: pathlib.Path, more: str = "") -> Iterator[Server]:
    """The tiny model, heads and columns over both, as soon as it answers. Its programs are compiled once for all tests."""
    join, port = f"localhost:{together.free_port()}", together.free_port()
    common = f"examples.llm.server --model {tiny.folder()} --mesh model=2 --dtype float32 --block-size 8 --cache-mb 1"
    common += f" --max-sequences 1 --step-tokens 16 --port {port} {more} --coordinator {join} --processes 2 --process"
    quick = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    quick |= {"JAX_COMPILATION_CACHE_DIR": str(tiny.folder() / "compiled")}
    outputs = [folder / f"{rank}.txt" for rank in range(2)]
    ranks = []
    for rank, path in enumerate(outputs):
        with path.open("w") as out:
            ranks.append(together.start([*common.split(), str(rank)], 1, quick, stdout=out, stderr=subprocess.STDOUT))
    try:
        wait_for(f"http://127.0.0.1:{port}/health", ranks, outputs)
        yield Server(f"http://127.0.0.1:{port}", ranks, outputs)
    finally:
        for p in ranks:
            p.kill()
            p.wait()
