"""The package's settings: one immutable record, changed only for the length of a ``with`` block.

The record is a JAX user context, so it is part of ``jax.jit``'s cache key: a function traced under one setting is traced again
under another. That is why there is no global setter; it could not invalidate what has been compiled.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax

FAMILIES = ("MOE", "LINEAR", "ATTENTION", "MLA", "NORM", "QUANT", "ROPE")
IMPLEMENTATIONS = ("asm", "triton", "xla")
ARCHS = ("gfx942", "gfx950", "sm_90")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What `jax_aiter` reads at trace time.

    enabled: kernels may be used at all (``JAX_AITER=0`` turns every op into its reference lowering).
    disabled_families: op families that stay on the reference (``JAX_AITER_MOE=0`` and so on, see ``FAMILIES``).
    implementation: what ``implementation=None`` means; None is auto (``JAX_AITER_IMPLEMENTATION``).
    arch: the target to lower for where no device tells it (``JAX_AITER_ARCH``); on the CPU, the fp8 family to emulate.
    debug_checks: turn out-of-range data (expert ids, slots, block tables, lengths) into errors (``JAX_AITER_DEBUG_CHECKS=1``).
    """

    enabled: bool = True
    disabled_families: frozenset[str] = frozenset()
    implementation: str | None = None
    arch: str | None = None
    debug_checks: bool = False

    def __post_init__(self):
        if self.implementation not in (None, *IMPLEMENTATIONS):
            raise ValueError(f"implementation must be None or one of {IMPLEMENTATIONS}, got {self.implementation!r}")
        if self.arch is not None and self.arch not in ARCHS:
            raise ValueError(f"arch must be None or one of {ARCHS}, got {self.arch!r}")
        unknown = self.disabled_families - set(FAMILIES)
        if unknown:
            raise ValueError(f"disabled_families holds {sorted(unknown)}; the families are {FAMILIES}")


def _flag(env: Mapping[str, str], name: str, default: bool) -> bool:
    value = env.get(name)
    if value is None or value == "":
        return default
    if value not in ("0", "1"):
        raise ValueError(f"environment variable {name} must be 0 or 1, got {value!r}")
    return value == "1"


def settings_from_env(env: Mapping[str, str]) -> Settings:
    """The settings that an environment spells out; raises ValueError naming the variable and the rule."""
    try:
        return Settings(
            enabled=_flag(env, "JAX_AITER", True),
            disabled_families=frozenset(f for f in FAMILIES if not _flag(env, f"JAX_AITER_{f}", True)),
            implementation=env.get("JAX_AITER_IMPLEMENTATION") or None,
            arch=env.get("JAX_AITER_ARCH") or None,
            debug_checks=_flag(env, "JAX_AITER_DEBUG_CHECKS", False),
        )
    except ValueError as error:
        if "environment variable" in str(error):
            raise
        raise ValueError(f"in a JAX_AITER_* environment variable: {error}") from None


_context = jax.make_user_context(default_value=None)


class Config:
    """The handle users see as ``jax_aiter.config``: read a field as an attribute, change fields with a ``with`` block.

    >>> with jax_aiter.config(implementation="xla", arch="gfx950"):
    ...     y = f(x)
    """

    def __init__(self, env: Mapping[str, str]):
        self._base = settings_from_env(env)

    @property
    def settings(self) -> Settings:
        return _context.value or self._base

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.settings, name)

    @contextmanager
    def __call__(self, **changes: Any) -> Iterator[Settings]:
        fields = [f.name for f in dataclasses.fields(Settings)]
        for name in changes:
            if name not in fields:
                raise TypeError(f"config has no setting {name!r}; the settings are {fields}")
        if "disabled_families" in changes:
            changes["disabled_families"] = frozenset(changes["disabled_families"])
        new = dataclasses.replace(self.settings, **changes)
        with _context(new):
            yield new

    def __repr__(self) -> str:
        return f"jax_aiter.config({self.settings})"


config = Config(os.environ)


def debug_checks(enabled: bool = True):
    """Inside the block, out-of-range data becomes an error (by a host callback) instead of the op's documented behaviour."""
    return config(debug_checks=enabled)
