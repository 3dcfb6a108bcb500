"""What programs do with these kernels: batches of calls, programs that are exported and loaded, buffers that are aliased."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from jax_aiter.kernels.call import export_checks
from jax_aiter.kernels.hip.adapters import adapters
from jax_aiter.ops import catalogue

from . import gemms
from .calls import calls

OPS = sorted(adapters())


@pytest.fixture
def call(arch, op):
    return next(call for call in calls(arch) if call.op == op)


def run(call, operands):
    return catalogue.named(call.op)(**operands, **call.params, implementation="hip")


@pytest.mark.parametrize("op", gemms.costly(OPS, but=()))
def test_a_batch_is_its_elements(call):
    """The first and the second element are the same call, whose batch is one larger call, or a call each."""
    batch = {name: jnp.stack([x, x]) for name, x in call.operands.items()}
    out = jax.jit(jax.vmap(lambda operands: run(call, operands)))(batch)
    for element in range(2):
        call.check([x[element] for x in out])


@pytest.mark.parametrize("op", gemms.costly(OPS))
def test_an_exported_program(call):
    fn = jax.jit(lambda operands: run(call, operands))
    data = export.export(fn, platforms=["rocm"], disabled_checks=export_checks())(call.operands).serialize()
    call.check(jax.jit(export.deserialize(data).call)(call.operands))


def test_what_a_kernel_writes_in_place_is_the_callers_only_when_given(arch):
    """AITER's function puts the norm where `x` was and the sum where the residual was: the caller's arrays stay as they are."""
    call = next(call for call in calls(arch) if call.op == "rms_norm_with_add")
    before = {name: np.asarray(x).copy() for name, x in call.operands.items()}
    call.check(jax.jit(lambda operands: run(call, operands))(call.operands))
    for name, x in call.operands.items():
        np.testing.assert_array_equal(np.asarray(x), before[name])
