"""What is recorded of host code that launches kernels: of `host.hip`, a small source of our own, compiled as AITER's are."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.hip.build import compilers
from jax_aiter.kernels.hip.worker.errors import RecordError
from jax_aiter.kernels.hip.worker.memory import PLACEMENTS, Memory, slots

ROOT = Path(__file__).parents[2]
UNITS = 228  # of a partitioned device: no other number is like it


@pytest.fixture(scope="session")
def recorded() -> dict:
    """By name, the record of each call of `recorder_probe.calls`, or why there is none."""
    try:
        compilers.find()
    except KernelBuildError as error:
        pytest.skip(str(error))
    command = [sys.executable, "-m", "tests.hip.recorder_probe", "gfx942", str(UNITS)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "seven axes are needed" in done.stderr
    return dict(map(json.loads, done.stdout.splitlines()))


def launches(record):
    return [step for step in record["steps"] if step["step"] == "launch"]


def test_steps_are_in_order_and_in_their_buffers(recorded):
    steps = recorded["launches-7"]["steps"]
    assert [step["step"] for step in steps] == ["fill", "launch", "launch", "copy"]
    assert steps[0] == {"step": "fill", "target": [2, 0], "nbytes": 64, "value": 0, "width": 1}
    assert steps[3] == {"step": "copy", "target": [2, 0], "source": [0, 0], "nbytes": 8}
    (by_value, two) = launches(recorded["launches-7"])
    assert (by_value["grid"], by_value["block"], by_value["shared"]) == ([3, 2, 1], [64, 1, 1], 0)
    assert (two["grid"], two["block"], two["shared"]) == ([1, 1, 1], [64, 1, 1], 256)
    assert by_value["kernel"].startswith("sample::by_value(")


def test_addresses_are_found_inside_a_struct_and_that_of_the_stack_is_zero(recorded):
    launch = launches(recorded["launches-7"])[0]
    assert launch["pointers"] == [[8, 2, 0], [16, 0, 16]]
    assert launch["params"] == [[0, 40], [40, 4], [44, 1]]
    blob = bytes.fromhex(launch["arguments"])
    assert struct.unpack("<i4xQQiiQf?", blob) == (16, 0, 0, 7, 0, 0, 0.5, True)


def test_numbers_that_look_like_an_address_are_numbers(recorded):
    launch = launches(recorded[f"launches-{PLACEMENTS[0]}"])[0]
    assert launch["pointers"] == [[8, 2, 0], [16, 0, 16]]
    assert struct.unpack_from("<Q", bytes.fromhex(launch["arguments"]), 24) == (PLACEMENTS[0],)


def test_an_optional_tensor_is_given_or_not(recorded):
    assert launches(recorded["launches-7"])[1]["pointers"] == [[0, 2, 0], [8, 0, 0]]
    assert launches(recorded["scaled"])[1]["pointers"] == [[0, 2, 0], [8, 1, 0]]


def test_more_arguments_than_there_are_registers(recorded):
    (launch,) = launches(recorded["many"])
    assert struct.unpack_from("<q", bytes.fromhex(launch["arguments"]), 16) == (1 - 2 + 3 + 4 + 5 + 6 + 7 + len("eight") + 1,)


def test_an_optional_number_is_in_registers_as_a_whole_or_on_the_stack(recorded):
    (launch,) = launches(recorded["maybe"])
    assert struct.unpack_from("<q", bytes.fromhex(launch["arguments"]), 16) == (1 + 20 + 100 + 3 + 4 + 5 + 600 + 7000,)


def test_a_function_of_another_library_is_given_when_it_is_called(recorded):
    """The call begins anew then: what it launched before is recorded once."""
    own, other = launches(recorded["opens 0.5"])
    assert own["kernel"].startswith("void sample::two<float>(")
    assert other["kernel"].startswith("void sample::scaled<float>(")
    assert (other["grid"], other["pointers"]) == ([3, 1, 1], [[0, 2, 0], [8, 1, 0]])
    assert struct.unpack_from("<fi", bytes.fromhex(other["arguments"]), 16) == (0.5, 3)


def test_the_device_is_the_one_that_is_recorded_for(recorded):
    (launch,) = launches(recorded["device"])
    assert (launch["grid"], launch["block"]) == ([UNITS, 1, 1], [64, 1, 1])
    assert bytes.fromhex(launch["arguments"])[16] == ord("2")  # of gfx942
    assert recorded["later"] == recorded["device"]


def test_memory_that_the_host_code_makes_is_scratch(recorded):
    record = recorded["workspace"]
    assert record["buffers"][-1] == {"kind": "scratch", "index": 0, "nbytes": 16 * 3 * 4}
    scratch = len(record["buffers"]) - 1
    assert [launch["pointers"] for launch in launches(record)] == [[[0, scratch, 4]], [[0, 2, 0], [8, scratch, 0]]]


def test_a_tensor_is_passed_by_value(recorded):
    (launch,) = launches(recorded["given"])
    assert (launch["pointers"], launch["shared"]) == ([[0, 2, 0], [8, 0, 0]], 256)
    assert struct.unpack_from("<q", bytes.fromhex(launch["arguments"]), 16) == (16,)


def test_a_tensor_may_have_no_memory_and_a_launch_more_lds(recorded):
    (launch,) = launches(recorded["nowhere"])
    assert (launch["pointers"], launch["shared"]) == ([[0, 2, 0]], 512)
    assert struct.unpack("<16xq", bytes.fromhex(launch["arguments"])) == (3,)


def test_a_function_may_be_asked_for_a_number_and_for_its_arguments(recorded):
    (launch,) = launches(recorded["asked"])
    assert struct.unpack_from("<q", bytes.fromhex(launch["arguments"]), 16) == (
        (3 - 10) + 11 + 3 + 4 + 5 + 6 + 7 + len("eight") + 1,
    )


def test_a_buffer_may_be_filled_before_a_launch(recorded):
    first, launch = recorded["filled"]["steps"]
    assert first == {"step": "fill", "target": [2, 0], "nbytes": 64, "value": 0x04030201, "width": 4}
    assert launch == recorded["device"]["steps"][0]


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        ("elsewhere", "launches another kernel when its buffers lie elsewhere"),
        ("checks", "takes 7 axes, not 1"),
        ("reads", "Ended: AITER's host code reads memory that it was given the address of"),
        ("aborts", "Ended: AITER's host code aborts the process"),
        ("nothing", "launches no kernel for this call"),
        ("allocates", "AITER's host code calls hipMalloc"),
        ("asks", "AITER's host code calls hipOccupancyMaxActiveBlocksPerMultiprocessor"),
        ("copies", "memory of its own as the source of a copy"),
        ("absent", "this release of AITER has no function sample::absent"),
        ("too late", r"sample::device\(at::Tensor&\) takes 1 arguments, not 2"),
        ("no number", "takes no NoneType as double"),
        ("opens -0.5", "what was compiled for it has no function .*part"),
    ],
)
def test_what_no_plan_can_say_is_refused(recorded, call, rule):
    import re

    assert re.search(rule, recorded[call]["refused"]), recorded[call]


@pytest.mark.exhaustive
def test_records_are_the_same_in_another_process(recorded):
    """Nothing of a process, its addresses above all, is in them."""
    command = [sys.executable, "-m", "tests.hip.recorder_probe", "gfx942", str(UNITS)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300
    )
    assert dict(map(json.loads, done.stdout.splitlines())) == recorded


def test_two_numbers_that_together_look_like_an_address_of_this_process_stay():
    """A stride, and padding that holds half of an address: zeroed, the stride would be lost without a word."""
    own = [(0x7F24 << 32, 0x7F25 << 32)]
    stride, address, moving = struct.pack("<ii", 640, 0x7F24), (0x7F24 << 32) + 0x1234_5678, ((0x7F24 << 32) + n for n in (64, 96))
    first, second = (stride + struct.pack("<QQ", address, other) for other in moving)
    data, found = slots((first, second), (Memory(PLACEMENTS[0]), Memory(PLACEMENTS[1])), False, own)
    assert data == stride + bytes(16)
    assert found == []
    assert slots((first, first), (Memory(PLACEMENTS[0]), Memory(PLACEMENTS[1])), True, own)[0] == bytes(24)


@pytest.mark.parametrize("halves", [(0x7F24, 0x5555), (0, 0x7F24), (0x5555, 0)])
def test_padding_that_held_half_of_an_address_is_zeroed(halves):
    """Whatever address that was: the number before it stays, and what follows is recorded as if the padding had held nothing."""
    own = [(0x7F24 << 32, 0x7F25 << 32), (0x5555 << 32, (0x5555 << 32) + 4096)]
    first, second = (struct.pack("<iiii", 640, half, 7168, 5) for half in halves)
    memories = Memory(PLACEMENTS[0]), Memory(PLACEMENTS[1])
    assert slots((first, second), memories, False, own) == (struct.pack("<iiii", 640, 0, 7168, 5), [])
    flagged = tuple(block[:4] + b"\x01" + block[5:] for block in (first, second))  # only the rest of the four is padding
    assert slots(flagged, memories, False, own) == (struct.pack("<iiii", 640, 1, 7168, 5), [])


def test_other_bytes_that_differ_are_refused():
    own, memories = [(0x7F24 << 32, 0x7F25 << 32)], (Memory(PLACEMENTS[0]), Memory(PLACEMENTS[1]))
    first = struct.pack("<iiii", 639, 5, 7167, 0x7F24)
    for place, other in ((4, (639, 6, 7167, 0x7F24)), (0, (641, 5, 7167, 0x7F24)), (8, (639, 5, 7169, 0))):
        with pytest.raises(RecordError, match=f"byte {place} of an argument differs"):
            slots((first, struct.pack("<iiii", *other)), memories, False, own)
