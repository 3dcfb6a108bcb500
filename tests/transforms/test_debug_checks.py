"""`debug_checks` over every op that takes ids, tables, slots, lengths, masks or offsets: it reports what is wrong, nothing else."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src import dispatch

import jax_aiter

from .common import ALL, OPS, bound, thinned
from .poison import Dependence
from .test_bad_input import computable

LIMITS = np.iinfo(np.int32).min, np.iinfo(np.int32).max


def integers(operands):
    return [n for n, x in operands.items() if x.dtype == jnp.int32]


WITH_INTEGERS = [(op, case) for op, case in ALL if integers(case.operands)]
# A negative slot says that a token is not written; a draft token of no vocabulary, that its row has no more drafts.
MEANT = {(name, "slot_mapping"): LIMITS[:1] for name, op in OPS.items() if "slot_mapping" in op.operands}
MEANT |= {(name, "draft_token_ids"): LIMITS for name, op in OPS.items() if "draft_token_ids" in op.operands}
LINES = ("cache_indices", "conv_state_indices", "ssm_state_indices")  # a negative one skips a sequence
MEANT |= {(name, line): LIMITS[:1] for name, op in OPS.items() for line in LINES if line in op.operands}


def wrong_calls(op, case, operands, read):
    """(operand, value, operands): each call has one number out of range, in one of the operands, where the op reads it."""
    for n in integers(operands):
        places = np.argwhere(read[n])
        for index in {tuple(places[0]), tuple(places[len(places) // 2]), tuple(places[-1])}:
            for value in set(LIMITS) - set(MEANT.get((op.name, n), ())):
                yield n, value, {**operands, n: operands[n].at[index].set(value)}


def reported(run, operands) -> str:
    """The error that a call raises by the time all its effects are done, "" for none."""
    try:
        jax.block_until_ready(run(operands))
        jax.effects_barrier()
    except Exception as error:
        with contextlib.suppress(Exception):  # a GPU reports once more at the barrier, and would at that of the next call
            jax.effects_barrier()
        dispatch.runtime_tokens.clear()
        return str(error)
    return ""


@thinned(WITH_INTEGERS)
def test_in_jit(op, case):
    """One program: the case's own data is in order, so is anything where nothing is read, and each wrong number is reported."""
    operands = case.draw()
    reads = Dependence(op, operands, case.params)
    read = reads.read(reads.live)
    with jax_aiter.debug_checks():
        run = jax.jit(bound(op, case))
        assert reported(run, operands) == ""
        for value in LIMITS:  # table entries behind a length, ids of padding
            unread = {n: jnp.where(read[n], operands[n], value) for n in integers(operands)}
            assert reported(run, {**operands, **unread}) == ""
        for n, value, changed in wrong_calls(op, case, operands, read):
            message = reported(run, changed)
            assert op.name in message, (n, value)
            assert "break the rule" in message, (n, value)


@thinned(WITH_INTEGERS)
def test_in_eager(op, case):
    operands = case.draw()
    reads = Dependence(op, operands, case.params)
    with jax_aiter.debug_checks():
        assert reported(bound(op, case), operands) == ""
        calls = wrong_calls(op, case, operands, reads.read(reads.live))
        for n, value, changed in {call[0]: call for call in calls}.values():
            message = reported(bound(op, case), changed)
            assert op.name in message, (n, value)
            assert n in message, (n, value, message)


MASKED = [(op, case) for op, case in ALL if "expert_mask" in case.operands and computable(case)]


@pytest.mark.parametrize(("op", "case"), MASKED, ids=[f"{op.name}-{case.name}" for op, case in MASKED])
def test_an_expert_map_given_as_a_mask_is_reported(op, case):
    """vLLM's map has the local number of each expert, -1 for those elsewhere."""
    operands = case.draw()
    held = np.asarray(operands["expert_mask"]) != 0
    as_map = jnp.asarray(np.where(held, np.cumsum(held) - 1, -1), jnp.int32)
    with jax_aiter.debug_checks():
        assert "pass expert_map >= 0" in reported(jax.jit(bound(op, case)), {**operands, "expert_mask": as_map})


def test_every_op_with_integers_takes_part():
    silent = {op.name for op, _ in WITH_INTEGERS if op.data_checks is None}
    assert not silent
    assert {op.name for op, case in ALL if "expert_mask" in case.operands} >= {
        "fused_moe",
        "asm_moe",
        "asm_moe_tkw1",
        "moe_sorting",
    }
