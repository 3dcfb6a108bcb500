"""AITER's own HIP kernels around a hand-written one, in its plan, where they can be built or their plan is cached."""

from __future__ import annotations

import dataclasses
import warnings

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.hip.provider import cannot_build, plan_for
from jax_aiter.kernels.plan import LaunchPlan
from jax_aiter.kernels.spec import CallSpec


@dataclasses.dataclass(frozen=True)
class Recorded:
    """spec: of what is recorded, or the rule by which nothing is. done, instead: what `explain` says of it and of XLA's kernels."""

    spec: CallSpec | str
    done: str
    instead: str

    def refusal(self) -> str | None:
        """Why XLA's kernels are taken, None if they are not."""
        return self.spec if isinstance(self.spec, str) else cannot_build(self.spec)

    def around(self) -> str:
        """For `explain`."""
        reason = self.refusal()
        return self.done if reason is None else f"{self.instead}: {reason}"

    def plan(self) -> LaunchPlan | None:
        """From the cache or made now; None where XLA's kernels are taken, with a warning where that is a fault."""
        if self.refusal() is not None:
            return None
        assert isinstance(self.spec, CallSpec)
        try:
            return plan_for(self.spec)
        except KernelBuildError as error:
            if self.refusal() is None:  # no rule of AITER's, which would be kept
                warnings.warn(f"{self.spec.op} is {self.instead}: {error}", RuntimeWarning, stacklevel=2)
            return None

    def specs(self) -> tuple[CallSpec, ...]:
        """What is to be recorded ahead."""
        return () if isinstance(self.spec, str) else (self.spec,)
