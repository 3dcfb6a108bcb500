"""One end of a connection between two processes: what is said and heard, and whether the other end still lives."""

import collections
import contextlib
import enum
import math
import os
import queue
import socket
import struct
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

BEATS = 10  # of an end that has nothing to say, within the time of silence after which the other gives it up


class Kind(enum.IntEnum):
    ALIVE = 0
    END = 1  # on purpose
    NAME = 2
    SETTINGS = 3
    STEP = 4
    DONE = 5
    FAILED = 6


class Gone(Exception):
    """Another process has ended, or says or does nothing any more: what all of them compute together is lost."""


def nobody(gone: Gone | None) -> None:
    del gone


class Link:
    """A thread hears the other end, and says that this one lives; it takes no part in what either computes. To wait for hours costs
    a message of a byte every now and then.

    other: what messages call the other end. patience: seconds of silence, or that an answer is due, after which it is given up.
    over: called once by the thread, with why the other end was given up, or None where it said that it ends.
    """

    def __init__(self, connection: Connection, other: str, patience: float, over: Callable[[Gone | None], None] = nobody):
        self.other, self.patience, self.over = other, patience, over
        self._connection, self._sending, self._ends = connection, threading.Lock(), False
        self._inbox: queue.SimpleQueue[tuple[Kind, bytes] | Gone] = queue.SimpleQueue()
        self._due: collections.deque[float] = collections.deque()
        _bounded(connection, patience)
        threading.Thread(target=self._serve, name=f"link to {other}", daemon=True).start()

    def say(self, kind: Kind, body: bytes = b"", soon: bool = True) -> None:
        """The other end says DONE to each STEP, and within the patience if it is to be soon. Raises `Gone`."""
        if kind == Kind.STEP:
            self._due.append(time.monotonic() if soon else math.inf)
        try:
            with self._sending:
                self._connection.send_bytes(bytes([kind]) + body)
        except OSError as error:
            raise Gone(f"{self.other} cannot be reached: {error}") from error

    def hear(self, *kinds: Kind) -> tuple[Kind, bytes]:
        """The next message, which is of these kinds, however long it takes to come. Raises `Gone`, now and ever after."""
        message = self._inbox.get()
        if not isinstance(message, Gone) and message[0] not in kinds:
            does = "has ended" if message[0] == Kind.END else f"says {message[0].name} where {kinds[0].name} is due"
            message = Gone(f"{self.other} {does}")
        if isinstance(message, Gone):
            self._inbox.put(message)
            raise message
        return message

    def end(self) -> None:
        """Say that this process ends."""
        self._ends = True
        with contextlib.suppress(Gone):
            self.say(Kind.END)

    def _serve(self) -> None:
        try:
            gone = self._watch()
        except (EOFError, OSError) as error:
            gone = Gone(f"{self.other} has ended" + (f": {error}" if str(error) else ""))
        except (ValueError, IndexError) as error:
            gone = Gone(f"what {self.other} says is no message: {error}")
        if not self._ends:
            if gone is not None:
                self._inbox.put(gone)
            self.over(gone)

    def _watch(self) -> Gone | None:
        """Until there is nothing more to hear; why, or None."""
        heard = said = time.monotonic()
        while True:
            if self._connection.poll(max(0.0, said + self.patience / BEATS - time.monotonic())):
                message, heard = self._connection.recv_bytes(), time.monotonic()
                kind = Kind(message[0])
                if kind == Kind.FAILED:
                    return Gone(f"{self.other} failed: {message[1:].decode()}")
                if kind == Kind.DONE:
                    self._due.popleft()
                elif kind != Kind.ALIVE:
                    self._inbox.put((kind, message[1:]))
                if kind == Kind.END:
                    return None
            now = time.monotonic()
            if now - heard > self.patience:
                return Gone(f"{self.other} has said nothing for {self.patience:g} s")
            if self._due and now - self._due[0] > self.patience:
                return Gone(f"{self.other} has not finished a step in {self.patience:g} s")
            if now >= said + self.patience / BEATS:
                self._say_alive()
                said = now

    def _say_alive(self) -> None:
        if self._sending.acquire(blocking=False):  # else something is being said
            try:
                self._connection.send_bytes(bytes([Kind.ALIVE]))
            finally:
                self._sending.release()


def _bounded(connection: Connection, seconds: float) -> None:
    """Neither sending to an end that reads nothing nor the rest of a message may take for ever."""
    limit = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
    with socket.socket(fileno=os.dup(connection.fileno())) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
