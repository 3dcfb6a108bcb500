"""An engine in a thread of its own, fed from and answering to an event loop."""

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

from examples.llm.serving.engine import Engine
from examples.llm.serving.request import Request, Sampling, Update

log = logging.getLogger(__name__)


class Busy(Exception):
    """As many requests wait as may."""


class Broken(Exception):
    """A step of the engine failed, or what it cannot go on without: nothing is served any more."""


WAIT = 5.0  # seconds for a broken engine's thread, whose step may never end, to end


class Stream:
    """What steps add to answers, each with the place of its request; it ends when all have. Whoever stops reading closes it."""

    def __init__(
        self, requests: list[Request], found: "asyncio.Queue[tuple[int, Update | Broken]]", leave: Callable[[list[Request]], None]
    ):
        self.requests, self._found, self._leave, self._left = requests, found, leave, len(requests)

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> tuple[int, Update]:
        if not self._left:
            raise StopAsyncIteration
        place, update = await self._found.get()
        if isinstance(update, Broken):
            raise update
        self._left -= update.finish is not None
        return place, update

    def close(self) -> None:
        self._leave(self.requests)


class Worker:
    """Its methods are called from one event loop; the engine is touched by its thread alone.

    most: requests that may run or wait at a time. finished: called in the loop with each request that ended.
    """

    def __init__(self, engine: Engine, *, most: int = 1024, finished: Callable[[Request], None] = lambda request: None):
        self.engine, self.most = engine, most
        self.error: Exception | None = None
        self._finished = finished
        self._sinks: dict[Request, Callable[[Update | Broken], None]] = {}
        self._inbox: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="engine")

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        if self.engine.runner.fault is not None:
            self.engine.runner.fault.listen(self._fault)
        self._thread.start()

    async def stop(self) -> None:
        """Requests that still run are cancelled."""
        for request in list(self._sinks):
            self._inbox.put(lambda request=request: self.engine.cancel(request))
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join, None if self.error is None else WAIT)

    @property
    def live(self) -> int:
        return len(self._sinks)

    def submit(self, prompts: Sequence[Sequence[int]], samplings: Sequence[Sampling]) -> "Stream":
        """Add a request for each prompt. Raises ValueError for one that could never be served, `Busy` and `Broken`; nothing has
        been added then.
        """
        if self.error is not None:
            raise Broken(f"the engine stopped: {self.error!r}")
        if self.live + len(prompts) > self.most:
            raise Busy(f"{self.live} requests are being served, at most {self.most} may be")
        requests = [self.engine.request(prompt, sampling) for prompt, sampling in zip(prompts, samplings, strict=True)]
        found: asyncio.Queue[tuple[int, Update | Broken]] = asyncio.Queue()
        for i, request in enumerate(requests):
            self._sinks[request] = lambda update, i=i: found.put_nowait((i, update))
            self._inbox.put(lambda request=request: self.engine.add(request))
        return Stream(requests, found, self.leave)

    def leave(self, requests: Sequence[Request]) -> None:
        """Nobody waits for these any more: what still runs of them is cancelled."""
        for request in requests:
            if self._sinks.pop(request, None) is not None:
                self._inbox.put(lambda request=request: self._cancel(request))

    def _cancel(self, request: Request) -> None:
        if self.engine.cancel(request):
            self._tell(self._finished, request)

    def _serve(self) -> None:
        try:
            while self._take() and self.error is None:
                updates = self.engine.step()
                if updates:
                    self._tell(self._give, updates)
        except Exception as error:  # whatever it is, whoever waits must hear of it
            log.exception("a step failed")
            fault = self.engine.runner.fault
            self._tell(self._fail, error if fault is None else fault.behind(error))

    def _take(self) -> bool:
        """Obey what is in the inbox, waiting for something only when there is nothing to compute; False: stop."""
        while True:
            try:
                command = self._inbox.get(block=not self.engine.busy)
            except queue.Empty:
                return True
            if command is None:
                return False
            command()

    def _give(self, updates: Sequence[tuple[Request, Update]]) -> None:
        for request, update in updates:
            sink = self._sinks.get(request)
            if sink is None:
                continue  # its reader has gone
            sink(update)
            if update.finish is not None:
                del self._sinks[request]
                self._finished(request)

    def _fault(self, error: Exception) -> None:
        """The engine's thread may be amid a step that never ends: those who wait hear of it all the same."""
        self._tell(self._fail, error)

    def _tell(self, what: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever waited
            self._loop.call_soon_threadsafe(what, *arguments)

    def _fail(self, error: Exception) -> None:
        self.error = self.error or error
        sinks, self._sinks = self._sinks, {}
        for sink in sinks.values():
            sink(Broken(f"the engine stopped: {self.error!r}"))
