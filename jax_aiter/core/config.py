"""The package's settings: one immutable record, changed only for the length of a ``with`` block.

The settings are part of ``jax.jit``'s cache key: a function traced under one setting is traced again under another. That is why
there is no global setter; it could not invalidate what has been compiled.
"""

import contextlib
import dataclasses
import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any

from jax_aiter.core.blocks import Block, Blocks
from jax_aiter.core.settings import FAMILIES as FAMILIES
from jax_aiter.core.settings import IMPLEMENTATIONS as IMPLEMENTATIONS
from jax_aiter.core.settings import Settings as Settings
from jax_aiter.core.settings import settings_from_env

FIELDS = tuple(f.name for f in dataclasses.fields(Settings))


class ConfigBlock(contextlib.ContextDecorator):
    """What ``jax_aiter.config(...)`` returns: a ``with`` block, entered once, or a decorator of a function."""

    def __init__(self, blocks: Blocks, changes: Mapping[str, Any]):
        for name in changes:
            if name not in FIELDS:
                raise TypeError(f"config has no setting {name!r}; the settings are {list(FIELDS)}")
        checked = Settings(**changes)
        self._blocks = blocks
        self._block = Block(tuple((name, getattr(checked, name)) for name in changes))

    def _recreate_cm(self) -> "ConfigBlock":
        return ConfigBlock(self._blocks, dict(self._block.changes))

    def __call__(self, func: Callable[..., Any]) -> Any:
        if any(test(func) for test in (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)):
            # The call only makes the coroutine: its body would run outside.
            raise TypeError(f"config decorates plain functions; inside {func.__qualname__}, use `with jax_aiter.config(...):`")
        return super().__call__(func)

    def __enter__(self) -> Settings:
        if self._block.thread is not None:
            raise RuntimeError("a jax_aiter.config(...) block is entered once: call jax_aiter.config again for another")
        self._blocks.enter(self._block)
        return self._blocks.settings()

    def __exit__(self, *exc: object) -> None:
        self._blocks.leave(self._block)


class Config:
    """The handle users see as ``jax_aiter.config``: read a field as an attribute, change fields with a ``with`` block.

    >>> with jax_aiter.config(implementation="xla", arch="gfx950"):
    ...     y = f(x)

    A block holds in the thread that opens it, and there in its own context as `contextvars` define it: another asyncio task sees
    nothing of it, a task started inside sees it while it is open. It may end in any order with others; its changes end with it.

    `changes` are settings by name (``docs/settings.md``). Raises TypeError for a name that is none, and TypeError or ValueError for
    a value that its setting does not take, naming both.
    """

    _blocks: Blocks

    def __init__(self, env: Mapping[str, str]):
        object.__setattr__(self, "_blocks", Blocks(settings_from_env(env)))

    @property
    def settings(self) -> Settings:
        return self._blocks.settings()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.settings, name)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(
            f"jax_aiter.config.{name} cannot be assigned: a setting is changed for the length of a block, "
            f"`with jax_aiter.config({name}={value!r}):`, or by the environment of the process"
        )

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"jax_aiter.config.{name} cannot be deleted: a setting is changed for the length of a block")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *FIELDS})

    def __call__(self, **changes: Any) -> ConfigBlock:
        """A ``with`` block (or decorator) under changed settings; TypeError or ValueError name the setting and its rule."""
        return ConfigBlock(self._blocks, changes)

    def __repr__(self) -> str:
        return f"jax_aiter.config({self.settings})"


config = Config(os.environ)


def debug_checks(enabled: bool = True) -> ConfigBlock:
    """Inside the block, out-of-range data becomes an error (by a host callback) instead of the op's documented behaviour.

    Args:
      enabled: False lifts it again inside.

    Returns:
      A ``with`` block or decorator, as `config` gives.

    Raises TypeError if `enabled` is no bool; a program traced inside raises where its data are out of range.
    """
    return config(debug_checks=enabled)
