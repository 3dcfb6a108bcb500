"""Which settings hold where: blocks belong to a context, as `contextvars` have it, and `jax.jit`'s cache key follows them.

JAX keeps what stands in the cache key per thread, and asyncio runs many contexts in one thread: while one task waits inside a
block, another runs. So what this module puts into the cache key is no value but a `Key`, which means the settings of whoever asks.
It comes to mean one value only when that matters: when settings are read under it (as a trace of ours does), or when it is found
equal to what a program was stored under. From then on the thread has another key. So what is stored under a key does not depend on
settings, or the key has settled and means those it was traced for; and JAX, which compares keys that are not the same object by
`==`, finds a program only where the caller's own settings are those.
"""

import dataclasses
import functools
import threading
from contextvars import ContextVar
from typing import Any

import jax

from jax_aiter.core.settings import Settings

Changes = tuple[tuple[str, Any], ...]
_KNOWN: dict[Settings, Settings] = {}


class Block:
    """The changes of one ``with`` statement. They hold in the context and thread that opened it."""

    def __init__(self, changes: Changes):
        self.changes = changes
        self.thread: Thread | None = None  # where it was opened; None before
        self.open = False


class Key:
    """Stands in JAX's cache keys while a block is open in a thread; `settings` is None until they matter."""

    __slots__ = ("_blocks", "settings")

    def __init__(self, blocks: "Blocks"):
        self._blocks = blocks
        self.settings: Settings | None = None

    def __hash__(self) -> int:
        return hash(None)  # which it may be equal to; the same before and after it has settled

    def __eq__(self, other: object) -> bool:
        if other is not None and not isinstance(other, Key):
            return NotImplemented
        return self._blocks.same(self, other)

    def __repr__(self) -> str:
        return f"jax_aiter.config({self.settings or 'as the caller has it'})"


class Opened:
    """The blocks that a context has entered, and what they came to when last asked: in which thread, after which block was left."""

    __slots__ = ("blocks", "found")

    def __init__(self, blocks: tuple[Block, ...]):
        self.blocks = blocks
        self.found: tuple[Thread | None, object, Settings | None] = (None, None, None)


class Thread:
    """What is open in one thread."""

    def __init__(self):
        self.opened: set[Block] = set()
        self.key: Key | None = None  # the one in force, never settled; None while nothing is open
        self.before: Any = None  # puts back what stood in the cache key before


class Blocks:
    """The blocks of one `Config`, over the settings `base`."""

    def __init__(self, base: Settings):
        self.base = base
        self._in_context: ContextVar[Opened] = ContextVar("jax_aiter_config")
        self._left = object()  # another one whenever a block is left
        self._user = jax.make_user_context(default_value=None)
        self._local = threading.local()

    def _thread(self) -> Thread:
        thread = getattr(self._local, "thread", None)
        if thread is None:
            thread = self._local.thread = Thread()
        return thread

    def settings(self) -> Settings:
        """Those of the running context: the changes of its open blocks, oldest first, over the base."""
        thread = self._thread()
        self._settle(thread)
        return self._now(thread)

    def enter(self, block: Block) -> None:
        thread = self._thread()
        self._settle(thread)
        if thread.key is None:
            thread.key = Key(self)
            thread.before = self._user(thread.key)
            thread.before.__enter__()
        thread.opened.add(block)
        block.thread, block.open = thread, True
        self._in_context.set(Opened((*self._open(), block)))

    def leave(self, block: Block) -> None:
        """In any order, and from any context or thread: a generator may be closed by whoever finds that nobody needs it."""
        self._settle(self._thread())
        block.open = False
        if block.thread is not None:
            block.thread.opened.discard(block)
        self._left = object()
        self._in_context.set(Opened(self._open()))
        self._settle(self._thread())

    def _open(self) -> tuple[Block, ...]:
        opened = self._in_context.get(None)
        return tuple(block for block in opened.blocks if block.open) if opened else ()

    def _now(self, thread: Thread) -> Settings:
        if thread.key is None:  # a context may have been copied into a thread whose cache key knows nothing of its blocks
            return self.base
        opened, left = self._in_context.get(None), self._left
        if opened is None:
            return self.base
        where, after, settings = opened.found
        if where is not thread or after is not left or settings is None:
            settings = _merged(self.base, tuple(block.changes for block in self._open() if block.thread is thread))
            opened.found = thread, left, settings
        return settings

    def _settle(self, thread: Thread) -> None:
        """The thread's key comes to mean the settings of the running context, and another one follows."""
        if thread.key is None:
            return
        thread.key.settings = self._now(thread)
        if thread.opened:
            thread.key = Key(self)
            self._user(thread.key).__enter__()
        else:
            thread.before.__exit__(None, None, None)
            thread.key = thread.before = None

    def same(self, one: Key, other: Key | None) -> bool:
        """Whether two keys (None: no block was open) mean the same here. If so they are settled: JAX may store under either now."""
        thread = self._thread()
        left, right = self._meaning(one, thread), self._meaning(other, thread)
        if left is None or left is not right:
            return False
        if thread.key is not None and (one is thread.key or other is thread.key):
            self._settle(thread)
        return True

    def _meaning(self, key: Key | None, thread: Thread) -> Settings | None:
        """None for the unsettled key of another thread, whose context cannot be asked."""
        if key is None:
            return self.base
        return key.settings or (self._now(thread) if key is thread.key else None)


@functools.lru_cache(maxsize=256)
def _merged(base: Settings, changes: tuple[Changes, ...]) -> Settings:
    """Equal settings are one object, which is quick to compare: every call of a jitted function inside a block does."""
    settings = dataclasses.replace(base, **{name: value for block in changes for name, value in block})
    return base if settings == base else _KNOWN.setdefault(settings, settings)
