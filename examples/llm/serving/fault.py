"""What an engine needs beside its own steps, other processes say, and cannot go on without."""

import threading
from collections.abc import Callable


class Fault:
    """That it happened, who has to hear of it, and whether it is why a step failed."""

    def __init__(self):
        self.error: Exception | None = None
        self._listeners: list[Callable[[Exception], None]] = []
        self._lock, self._known = threading.Lock(), threading.Event()

    def happened(self, error: Exception) -> None:
        """Of several the first counts."""
        with self._lock:
            if self.error is not None:
                return
            self.error, told = error, list(self._listeners)
        self._known.set()
        for listener in told:
            listener(error)

    def listen(self, listener: Callable[[Exception], None]) -> None:
        """It is called from any thread, once: at once where it has happened already."""
        with self._lock:
            self._listeners.append(listener)
            error = self.error
        if error is not None:
            listener(error)

    def behind(self, error: Exception, seconds: float = 2.0) -> Exception:
        """What a step's error came of: a fault that shows within so many seconds, or itself."""
        self._known.wait(seconds)
        return self.error or error
