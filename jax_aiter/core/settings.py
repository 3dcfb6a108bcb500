"""The settings as a record: what there is, what each may be, and how the environment spells it."""

import dataclasses
from collections.abc import Mapping

from jax_aiter.core.text import shown

FAMILIES = ("MOE", "LINEAR", "ATTENTION", "MLA", "NORM", "QUANT", "ROPE", "SAMPLING", "LINEAR_ATTENTION", "MHC")
IMPLEMENTATIONS = ("asm", "hip", "triton", "xla")
ARCHS = ("gfx942", "gfx950", "sm_90")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What `jax_aiter` reads at trace time.

    enabled: kernels may be used at all (``JAX_AITER=0`` turns every op into its reference lowering).
    disabled_families: op families that stay on the reference (``JAX_AITER_MOE=0`` and so on, see ``FAMILIES``).
    implementation: what ``implementation=None`` means; None is auto (``JAX_AITER_IMPLEMENTATION``).
    arch: the target to lower for where no device tells it (``JAX_AITER_ARCH``); on the CPU, the fp8 family to emulate.
    debug_checks: turn out-of-range data (expert ids, slots, block tables, lengths) into errors (``JAX_AITER_DEBUG_CHECKS=1``).
    source: the folder to take AITER's files from, a checkout or one with installed packages (``JAX_AITER_SOURCE``).
    unverified: take files of AITER that no known release has as they are (``JAX_AITER_UNVERIFIED=1``).
    build: what is not cached of Triton and HIP kernels may be compiled while a program is traced; ``JAX_AITER_BUILD=0`` for
      processes that should not wait for a compiler: there a call whose plan is not cached takes the next implementation.
    """

    enabled: bool = True
    disabled_families: frozenset[str] = frozenset()
    implementation: str | None = None
    arch: str | None = None
    debug_checks: bool = False
    source: str | None = None
    unverified: bool = False
    build: bool = True

    def __post_init__(self):
        for name in ("enabled", "debug_checks", "unverified", "build"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise TypeError(f"{name} must be True or False, got {type(value).__name__} {shown(value)}")
        for name, allowed in (("implementation", IMPLEMENTATIONS), ("arch", ARCHS)):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise TypeError(f"{name} must be None or one of {allowed}, got {type(value).__name__} {shown(value)}")
            if value is not None and value not in allowed:
                raise ValueError(f"{name} must be None or one of {allowed}, got {shown(value)}")
        if self.source is not None and (not isinstance(self.source, str) or not self.source):
            raise TypeError(f"source must be None or the path of a folder, got {type(self.source).__name__} {shown(self.source)}")
        object.__setattr__(self, "disabled_families", _families(self.disabled_families))


def _families(value: object) -> frozenset[str]:
    rule = f"disabled_families must be a set, list or tuple of {FAMILIES}"
    if not isinstance(value, (frozenset, set, list, tuple)) or not all(isinstance(f, str) for f in value):
        raise TypeError(f"{rule}, got {type(value).__name__} {shown(value)}")
    unknown = set(value) - set(FAMILIES)
    if unknown:
        raise ValueError(f"{rule}, got {sorted(unknown)}")
    return frozenset(value)


def _flag(env: Mapping[str, str], name: str, default: bool) -> bool:
    value = env.get(name)
    if value is None or value == "":
        return default
    if value not in ("0", "1"):
        raise ValueError(f"environment variable {name} must be 0 or 1, got {shown(value)}")
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
            source=env.get("JAX_AITER_SOURCE") or None,
            unverified=_flag(env, "JAX_AITER_UNVERIFIED", False),
            build=_flag(env, "JAX_AITER_BUILD", True),
        )
    except ValueError as error:
        if "environment variable" in str(error):
            raise
        raise ValueError(f"in a JAX_AITER_* environment variable: {error}") from None
