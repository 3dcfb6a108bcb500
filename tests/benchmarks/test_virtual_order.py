"""What the tables of estimates are made of, and what docs/choosing.md says of them."""

from pathlib import Path

import pytest

from benchmarks.virtual_time import errors, open_calls, order_table
from jax_aiter.bind import estimated, tuning
from jax_aiter.core.arch import COMPUTE_UNITS
from jax_aiter.ops.catalogue import all_ops

PAGE = Path(__file__).parents[2] / "docs/choosing.md"


def test_the_page_has_the_table_of_the_files_as_they_are():
    _, _, rest = PAGE.read_text().partition("<!-- order -->\n")
    assert rest.partition("<!-- end -->")[0].strip() == order_table.table()


@pytest.mark.parametrize("arch", open_calls.DEVICES)
def test_a_file_says_of_its_errors_what_the_writer_does(arch):
    units, near, entries = estimated.table(arch)
    assert near is not None
    assert {"off": near.off, "why": near.why} == errors.near(open_calls.DEVICES[arch])
    assert units == COMPUTE_UNITS[arch]
    said = errors.errors(open_calls.DEVICES[arch])
    ops = {kind.split(" ")[1] for kind in entries}
    for kind, each in entries.items():
        op = kind.split(" ")[1]
        for _, estimate in each:
            for name in estimate.us:
                assert estimate.errors[name] == estimated.error(said, op, name)
    assert {op for each in said for op in each.get("ops", ())} - {"fused_moe"} <= ops


@pytest.mark.parametrize("arch", open_calls.DEVICES)
def test_the_calls_are_of_ops_and_no_two_of_a_group_are_the_same(arch):
    for name, group in open_calls.GROUPS.items():
        calls = [call for call, _ in group(arch)]
        assert {call.op for call in calls} <= set(all_ops())
        spelled = [f"{call.op} {tuning.spelled(call)}" for call in calls]
        assert len(set(spelled)) == len(spelled), name
