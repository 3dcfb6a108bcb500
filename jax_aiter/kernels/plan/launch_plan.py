"""LaunchPlan: all that a kernel library's host code would decide, written down as data.

A plan is a list of steps over numbered buffers. It is made in Python when an op is traced, from static shapes; it
travels inside the executable as the attribute of one custom call; and the C++ handler (`ffi/`) replays it on XLA's
stream. Nothing is decided at run time, so nothing has to be allocated, compiled or looked up at run time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from jax_aiter.kernels.plan.content import PlanContent
from jax_aiter.kernels.plan.encode import content_digest
from jax_aiter.kernels.plan.pretty import format_plan


@dataclass(frozen=True)
class LaunchPlan(PlanContent):
    """A plan that knows its digest and its printed form; see `PlanContent` for what it holds."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the plan's content in hex: equal for equal plans, in any process and on any machine."""
        return content_digest(self)

    def __str__(self) -> str:
        return format_plan(self, self.digest)
