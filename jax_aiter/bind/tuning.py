"""What was measured of calls: the JSON file that ``jax-aiter tune`` writes.

It is ``<cache>/tune/<arch>.json``, or the file that JAX_AITER_TUNE names.

    {"version": 1, "entries": {"sm_90 rms_norm x=bfloat16[4096,8192] ... | epsilon=set": {
        "best": "xla", "seconds": {"xla": 4.3e-05, "triton": 7.3e-05}, "measured": "x=bfloat16[4096,8192] ..."}}}

An entry of a call whose tiles were searched has the fields of `searched.Searched` too: the tile that its Triton kernels take.

A key names the arch, the op, every operand that is present with its dtype and its shape, each dimension rounded up to the next
power of two, and the static parameters. Of a float parameter the key says only whether it is 0: a scale or an epsilon does not
change the time, whether there is a soft cap does. A kernel is preferred where it is faster than XLA by `MARGIN`. Nothing is read
before the first call that a kernel could run.
"""

import dataclasses
import functools
import json
import os
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jax_aiter.bind.searched import Searched
from jax_aiter.kernels.cache import CacheError, cache_root
from jax_aiter.kernels.disk import read_plain
from jax_aiter.kernels.provider import Call

VERSION = 1
ENVIRONMENT = "JAX_AITER_TUNE"
#: What a kernel must be faster than XLA's program by: a chain timed in two runs differed by up to 2 % where a call takes 20 µs
#: or more, and by up to 8 % below, where XLA picks another product each time. A kernel chosen within it would be a coin toss.
MARGIN = 0.05
#: bytes of a tuning file; one entry takes some 400.
LARGEST = 64 << 20


@dataclasses.dataclass(frozen=True)
class Entry:
    """Median device seconds of one call per implementation; `measured` is the exact call that was timed.

    searched: of the Triton kernels, the tile that they were timed with; None where tiles were not searched.
    reference: the form of XLA's program (`core.machine.Form`), "" where the op has one only or nobody noted it.
    """

    seconds: Mapping[str, float]
    measured: str
    searched: Searched | None = None
    reference: str = ""

    @property
    def faster(self) -> tuple[str, ...]:
        """The kernel implementations that are faster than XLA by more than a measurement is off, the fastest first."""
        limit = (1 - MARGIN) * self.seconds["xla"]
        return tuple(sorted((n for n, s in self.seconds.items() if s < limit), key=lambda n: self.seconds[n]))

    @property
    def slower(self) -> tuple[str, ...]:
        """The kernel implementations that XLA's program is faster than by more than a measurement is off."""
        return tuple(n for n, s in self.seconds.items() if self.seconds["xla"] < (1 - MARGIN) * s)

    @property
    def best(self) -> str:
        return next(iter(self.faster), "xla")

    def __str__(self) -> str:
        return ", ".join(f"{name} {1e3 * s:.3g} ms" for name, s in sorted(self.seconds.items(), key=lambda item: item[1]))


def key(call: Call) -> str:
    """The name under which a measurement of this call is stored; calls with equal keys share one."""
    operands = {name: (x.dtype.name, x.shape) for name, x in call.operands.items()}
    return spelled_key(call.target.arch, call.op, operands, call.params)


def spelled_key(arch: str | None, op: str, operands: Mapping[str, tuple[str, Iterable[int]]], params: Mapping[str, Any]) -> str:
    """`key`, of dtypes' names and shapes by operand."""
    spelled = " ".join(f"{name}={dtype}{_shape(map(_rounded, shape))}" for name, (dtype, shape) in operands.items())
    return f"{arch} {op} {spelled} | {' '.join(f'{n}={_param(v)}' for n, v in sorted(params.items()))}".rstrip()


def skeleton(key: str) -> str:
    """A key without its sizes: calls with equal skeletons differ in nothing else."""
    operands, bar, params = key.partition(" | ")
    return re.sub(r"(?<=[\[,])[0-9]+", "", operands) + bar + params


def spelled(call: Call) -> str:
    """The operands with their exact shapes."""
    return " ".join(f"{name}={x.dtype.name}{_shape(x.shape)}" for name, x in call.operands.items())


def _rounded(n: int) -> int:
    return 1 << (n - 1).bit_length() if n > 0 else 0


def _shape(dims: Iterable[int]) -> str:
    return f"[{','.join(map(str, dims))}]"


def _param(value: Any) -> str:
    if isinstance(value, float):
        return "set" if value else "0"
    if isinstance(value, (tuple, list)):
        return f"({','.join(map(_param, value))})"
    return value.name if isinstance(value, np.dtype) else str(value)


def tune_file(arch: str) -> Path:
    """The file that auto reads for this arch."""
    named = os.environ.get(ENVIRONMENT)
    if not named:
        return cache_root() / "tune" / f"{arch}.json"
    try:
        return Path(named).expanduser()
    except RuntimeError:  # nobody has that home; `entries` says that there is no such file
        return Path(named)


def lookup(call: Call) -> Entry | None:
    """The measurement that covers this call, if there is one."""
    if call.target.arch is None:
        return None
    try:
        path = tune_file(call.target.arch)
    except CacheError:  # the providers, which look for kernels there, say so
        return None
    return entries(path).get(key(call))


def entries(path: Path) -> Mapping[str, Entry]:
    """What a tuning file holds; a file that cannot be used counts as empty and is warned about once."""
    try:
        status = path.stat()
    except OSError:
        return _absent(path) if os.environ.get(ENVIRONMENT) else {}
    return _read(path, status.st_mtime_ns, status.st_size)


@functools.cache
def _absent(path: Path) -> Mapping[str, Entry]:
    _ignored(path, f"{ENVIRONMENT} names it, but it cannot be found")
    return {}


@functools.lru_cache(maxsize=16)
def _read(path: Path, modified: int, size: int) -> Mapping[str, Entry]:
    """Keyed by the file's stamp, so that a file written by another process is seen and an unchanged one is read once."""
    try:
        return parse(read_plain(path, LARGEST).decode())
    except (OSError, ValueError) as error:
        _ignored(path, str(error))
        return {}


def _ignored(path: Path, reason: str) -> None:
    warnings.warn(
        f"jax_aiter ignores the tuning file {path}: {reason}; write it again with `jax-aiter tune`, or remove it",
        RuntimeWarning,
        stacklevel=3,
    )


def parse(text: str) -> dict[str, Entry]:
    """The entries of a tuning file's text; ValueError says what is wrong with it."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON ({error})") from None
    version = data.get("version") if isinstance(data, dict) else None
    if version != VERSION:
        raise ValueError(f"its version is {version!r}, this package reads version {VERSION}")
    found = {}
    for name, value in _mapping(data.get("entries"), "entries").items():
        seconds = _mapping(_mapping(value, name).get("seconds"), f"{name}: seconds")
        if "xla" not in seconds or not all(type(s) in (int, float) and s > 0 for s in seconds.values()):
            raise ValueError(f"{name}: seconds must give positive numbers, xla among them, got {seconds!r}")
        found[name] = Entry(seconds, str(value.get("measured", "")), Searched.of(name, value), str(value.get("reference", "")))
    return found


def origin(text: str) -> str:
    """On what the entries of a tuning file were measured, by its text."""
    data = json.loads(text)
    return f"{data.get('device', 'device unknown')}, jax {data.get('jax', 'unknown')}"


def _mapping(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be an object, got {type(value).__name__}")
    return value


def render(found: Mapping[str, Entry], **about: Any) -> bytes:
    """The text of a tuning file, for `parse`; `about` says on what it was measured."""
    body = {}
    for name, entry in sorted(found.items()):
        body[name] = {"best": entry.best, "seconds": dict(entry.seconds), "measured": entry.measured}
        body[name] |= {"reference": entry.reference} if entry.reference else {}
        body[name] |= entry.searched.to_json() if entry.searched is not None else {}
    return json.dumps({"version": VERSION, **about, "entries": body}, indent=1).encode()


def merged(old: Entry | None, new: Entry) -> Entry:
    """Of two calls measured under one key, the one whose kernels do worse against XLA: auto shall lose on neither of them."""

    def gain(entry: Entry) -> float:
        return min((s for name, s in entry.seconds.items() if name != "xla"), default=float("inf")) / entry.seconds["xla"]

    return old if old is not None and gain(old) > gain(new) else new
