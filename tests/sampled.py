"""A pytest plugin (``-p tests.sampled --sample I/N``): of the tests of numbers, a few, dealt out among N runs.

Every test function goes to one of the runs, by turns, and takes part there with one of its sets of parameters, the one that a hash
of its name chooses: all kinds of tests are covered, and a test that is added later too.
"""

import re
import zlib

import jax
import pytest

# Words in the names of files and tests that are about something else than numbers: messages, memory, shapes, programs not run.
ABOUT = ["error", "rule", "refuse", "bad_", "wrong", "debug", "mixed", "another_arch", "memory", "in_place", "not_copied"]
ABOUT += ["detector", "record", "eval_shape", "stablehlo", "work_list", "most_ops", "take_part", "takes_part", "covered"]
ABOUT += ["symbolic", "odd_values", "parameter_objects", "export_shuffled", "empty_axes", "random_shapes"]
OTHER = re.compile("|".join(ABOUT))
# These start processes of their own, and cost as much as all the others.
COSTLY = {"test_export_round_trip_in_a_fresh_process", "test_two_processes", "test_whole_command"}
NO_FLOAT16 = "Failed to materialize symbols"  # without AVX, XLA's code for float16 calls a function that jaxlib lacks


def pytest_addoption(parser):
    parser.addoption("--sample", metavar="I/N", help="one set of parameters of every Nth test function, from the Ith on")


@pytest.hookimpl(trylast=True)  # after what marks and names leave out
def pytest_collection_modifyitems(config, items):
    if not (sample := config.getoption("--sample")):
        return
    turn, turns = map(int, sample.split("/"))
    functions: dict[str, list[pytest.Item]] = {}
    for item in items:
        name = item.nodeid.partition("[")[0]
        test = name.rpartition("::")[2]
        if not OTHER.search(name) and test not in COSTLY:
            functions.setdefault(name, []).append(item)
    chosen = [found[zlib.crc32(name.encode()) % len(found)] for name, found in functions.items()][turn::turns]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    try:
        return (yield)
    except jax.errors.JaxRuntimeError as error:
        if NO_FLOAT16 not in str(error):
            raise
        pytest.skip("XLA cannot convert float16 for this instruction set")
