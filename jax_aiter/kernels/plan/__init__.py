"""Launch plans: what one is made of (`steps`, `content`), its bytes (`encode`, `decode`), how it prints (`pretty`)."""

from jax_aiter.kernels.args import PlanError as PlanError
from jax_aiter.kernels.plan.launch_plan import LaunchPlan as LaunchPlan
from jax_aiter.kernels.plan.steps import Address as Address
from jax_aiter.kernels.plan.steps import Buffer as Buffer
from jax_aiter.kernels.plan.steps import CodeObject as CodeObject
from jax_aiter.kernels.plan.steps import Copy as Copy
from jax_aiter.kernels.plan.steps import Fill as Fill
from jax_aiter.kernels.plan.steps import Launch as Launch
from jax_aiter.kernels.plan.steps import Step as Step
