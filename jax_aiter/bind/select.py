"""Which implementation runs a call, and why the others do not."""

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any

import jax

from jax_aiter.bind import estimated, forms, preference
from jax_aiter.core import machine, symbolic
from jax_aiter.core.arch import arch_of
from jax_aiter.core.errors import KernelBuildError, NotSupportedError
from jax_aiter.core.record import Record
from jax_aiter.kernels.provider import Call, Missing, Target, Unasked, Unusable, providers


@dataclasses.dataclass(frozen=True)
class Choice:
    implementation: str
    plan: Any  # LaunchPlan or Program, None for "xla"
    refusals: Mapping[str, str]  # implementation -> the rule that refused it


def target(platform: str, arch: str | None) -> Target:
    """The target on a platform: the configured arch, else the arch of the machine's own device of that platform."""
    if platform == "cpu":
        return Target(platform, None)
    if arch is None and jax.default_backend() in ("gpu", platform):
        found = arch_of(jax.local_devices()[0])
        # A program may be lowered for the other GPU platform too; this machine's device says nothing about that one.
        arch = found if found is not None and found.startswith(machine.GPUS.get(platform, "")) else None
    return Target(platform, arch)


def make_call(op: Record, platform: str, arch: str | None, operands, params: Mapping[str, Any], results, kernel=None) -> Call:
    where = target(platform, arch)
    reference = forms.form(op, platform, where.arch, operands, params)
    return Call(op.name, where, dict(operands), dict(params), tuple(results), kernel, reference)


def refusals(call: Call) -> dict[str, str | None]:
    """For each kernel implementation, None if it can run the call, else why not."""
    found: dict[str, str | None] = dict.fromkeys(("asm", "hip", "triton"), "this provider is not installed")
    if call.target.platform not in ("rocm", "cuda"):
        return dict.fromkeys(found, f"kernels run on ROCm and CUDA, the platform is {call.target.platform}")
    if call.target.arch is None:
        return dict.fromkeys(found, "no device tells the architecture: set config(arch=...) or JAX_AITER_ARCH")
    for name, x in call.operands.items():
        for axis, size in enumerate(x.shape):
            if symbolic.is_symbolic(size):
                rule = f"a kernel is planned for sizes that are numbers, and dimension {axis} of {name} is {size}"
                return dict.fromkeys(found, rule)
    for provider in providers():
        found[provider.name] = provider.refuse(call)
    return found


_warned: set[str] = set()


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        warnings.warn(message, RuntimeWarning, stacklevel=2)


def choose(op: Record, call: Call, implementation: str | None) -> Choice:
    """Explicit runs that or raises NotSupportedError; None takes the kernel that tuning prefers, else the reference."""
    if implementation == "xla":
        return Choice("xla", None, dict.fromkeys(("asm", "hip", "triton"), "implementation='xla' was asked for"))
    reasons = refusals(call)
    if implementation is not None:
        reason = reasons[implementation]
        if reason is not None:
            raise NotSupportedError(f"{op.name}: implementation={implementation!r} cannot run this call: {reason}")
        provider = next(p for p in providers() if p.name == implementation)
        return Choice(implementation, provider.plan(call), {})
    ranked, refused = _ranked(call, reasons)
    unusable = [(name, reason) for name, reason in reasons.items() if isinstance(reason, Unusable)]
    for why in dict.fromkeys(reason for _, reason in unusable):
        _warn_once(f"jax_aiter runs without the {' and '.join(name for name, reason in unusable if reason == why)} kernels: {why}")
    by_name = {provider.name: provider for provider in providers()} if ranked.order else {}
    for name in ranked.order:
        try:
            return Choice(name, by_name[name].plan(call), {n: why for n, why in refused.items() if n != name})
        except KernelBuildError as error:
            refused[name] = str(error)
            _warn_once(f"{op.name} does without its {name} kernel, which could not be built: {error}")
    for name, reason in reasons.items():
        if isinstance(reason, Missing):
            _warn_once(f"{op.name} runs its reference lowering; the {name} kernels need something that is missing: {reason}")
    return Choice("xla", None, refused)


def _ranked(call: Call, reasons: Mapping[str, str | None]) -> tuple[preference.Preference, dict[str, str]]:
    """The kernels auto would try, in order, and why each other one is not tried."""
    refused = {name: reason for name, reason in reasons.items() if reason is not None}
    order, behind, overtaken = _ordered(call, reasons)
    ranked = preference.preference(call, order)
    slower = {} if overtaken and preference.details(call, order[0]) else overtaken  # a measurement says so, or otherwise
    return ranked, {**refused, **behind, **slower, **ranked.passed_over}


def _ordered(call: Call, reasons: Mapping[str, str | None]) -> tuple[tuple[str, ...], dict[str, str], dict[str, str]]:
    """The kernels in AITER's order, or that of the estimates where AITER leaves it open; why it would not take some of them; the
    estimate by which the first one comes before others that AITER's order has before it."""
    asked, behind = _asked(call, reasons)
    usual = tuple(sorted(asked, key=lambda name: name in behind))
    guess = estimated.agreed(call, usual) if len(usual) > 1 else None
    if guess is None or not all(p.left_open(call) is not None for p in providers() if p.name in usual):
        return usual, behind, {}
    order = guess.order(usual)
    return order, behind, {name: guess.why(order[0], name) for name in usual[: usual.index(order[0])]}


def _asked(call: Call, reasons: Mapping[str, str | None]) -> tuple[list[str], dict[str, str]]:
    """The kernels that auto asks, and why their libraries would not take some of those that accept the call.

    Such a kernel still beats no kernel, but comes after the other libraries' kernels.
    """
    accepting = [provider for provider in providers() if reasons.get(provider.name) is None and provider.name in reasons]
    behind = {p.name: why for p in accepting if (why := p.passes_over(call)) is not None}
    return [p.name for p in accepting if not isinstance(behind.get(p.name), Unasked)], behind


def by_estimate(call: Call, implementation: str) -> tuple[str, ...]:
    """For `explain`: the estimates by which auto takes this kernel, () if something else says so."""
    order, _, overtaken = _ordered(call, refusals(call))
    return tuple(overtaken.values()) if order[:1] == (implementation,) else ()


def preferred(call: Call, implementation: str | None, lifted: str | None = None) -> tuple[str, dict[str, str]]:
    """What `choose` would take, judged from the refusals alone: nothing is built. lifted: a reason that counts as none."""
    reasons = {name: None if reason == lifted else reason for name, reason in refusals(call).items()}
    if implementation is not None:
        return implementation, {name: reason for name, reason in reasons.items() if reason is not None}
    ranked, refused = _ranked(call, reasons)
    taken = next(iter(ranked.order), "xla")
    return taken, {name: reason for name, reason in refused.items() if name != taken}


def details(call: Call, implementation: str) -> tuple[str, ...]:
    """What `implementation` would launch for a call it can run, as far as that is known without building it."""
    if refusals(call).get(implementation, "") is not None:
        return ()
    return next(provider for provider in providers() if provider.name == implementation).details(call)
