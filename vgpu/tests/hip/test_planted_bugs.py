"""Bugs planted in small HIP programs: each must be reported, and the program without the bug must pass."""

import pytest

import vgpu

OVERRUN = """
fill = function("fill")
buffer = malloc(4 * 100)
launch(fill, buffer, 0, 100 + {extra}, 7)
print(download(buffer, 100).sum())
"""


def test_store_past_the_end_by_one_element(program):
    assert program(OVERRUN.format(extra=0)).stdout == "700\n"
    done = program(OVERRUN.format(extra=1))
    assert done.returncode != 0
    assert "hipErrorLaunchFailure" in done.stderr
    # Who, where, and next to what.
    for text in ("kernel fill", "global_store_dword", "lane 36", "hipMalloc #1 of device 0", "400"):
        assert text in done.stderr, done.stderr


USE_AFTER_FREE = """
add = function("add")
source, out = upload(np.arange(64, dtype=np.int32)), malloc(256)
if {free}:
    call("hipFree", c_void_p(source))
launch(add, out, source, 64, 1)
print(download(out, 64).sum())
"""


def test_use_after_free(program):
    assert program(USE_AFTER_FREE.format(free=False)).stdout == "2080\n"
    done = program(USE_AFTER_FREE.format(free=True))
    assert done.returncode != 0
    assert "free" in done.stderr and "global_load_dword" in done.stderr, done.stderr


# The producer is on one stream, the consumer on another.
DEPENDENCY = """
slow, add = function("slow_add"), function("add")
source, middle, out = upload(np.full(64, 5, np.int32)), upload(np.zeros(64, np.int32)), malloc(256)
first, second = stream(), stream()
launch(slow, middle, source, 64, {turns}, first)
if {wait}:
    done = event()
    call("hipEventRecord", done, first)
    call("hipStreamWaitEvent", second, done, c_uint(0))
launch(add, out, middle, 64, 1, second)
call("hipDeviceSynchronize")
print(download(out, 64)[0])
"""


def test_missing_dependency_between_streams(program):
    # With the dependency every schedule is right; without it some seed among a few shows the wrong result.
    seeds = [vgpu.Options(check=f"order={seed}") for seed in range(4)]
    assert {program(DEPENDENCY.format(wait=True, turns=20000), options).stdout for options in seeds} == {"7\n"}
    assert "1\n" in {program(DEPENDENCY.format(wait=False, turns=20000), options).stdout for options in seeds}


def test_missing_dependency_shows_with_real_threads(program):
    # Without checks launches return at once, and the slow producer (millions of instructions) loses against the
    # consumer unless the machine stalls the latter's thread all the while: three attempts.
    none = vgpu.Options(check="none")
    assert program(DEPENDENCY.format(wait=True, turns=1000000), none).stdout == "7\n"
    assert "1\n" in {program(DEPENDENCY.format(wait=False, turns=1000000), none).stdout for _ in range(3)}


def test_an_order_seed_reproduces(program):
    options = vgpu.Options(check="order=1")
    runs = {program(DEPENDENCY.format(wait=False, turns=20000), options).stdout for _ in range(3)}
    assert len(runs) == 1


UNINITIALISED = """
add = function("add")
source, out = malloc(256), malloc(256)
count = 64 if {whole} else 63
call("hipMemsetD32", c_void_p(source), c_int(3), c_size_t(count))
launch(add, out, source, 64, 1)
print(download(out, 64)[0])
"""


def test_read_of_bytes_nobody_wrote(program):
    options = vgpu.Options(check="uninit")
    assert program(UNINITIALISED.format(whole=True), options).stdout == "4\n"
    done = program(UNINITIALISED.format(whole=False), options)
    assert done.returncode != 0
    assert "nobody has written" in done.stderr and "lane 63" in done.stderr, done.stderr
    assert program(UNINITIALISED.format(whole=False)).stdout == "4\n"  # without the check it runs


UNAWAITED = """
add = function("{kernel}")
source, out = upload(np.arange(64, dtype=np.int32)), malloc(256)
launch(add, out, source, 64, 1)
print(download(out, 64).sum())
"""


def test_a_load_that_is_not_awaited(program):
    options = vgpu.Options(check="hazard")
    assert program(UNAWAITED.format(kernel="add"), options).stdout == "2080\n"
    assert program(UNAWAITED.format(kernel="hasty_add")).stdout == "2080\n"  # without the check nothing shows
    done = program(UNAWAITED.format(kernel="hasty_add"), options)
    assert done.returncode != 0
    for text in ("kernel hasty_add: hazard: v3 is read by lane 0", "s_waitcnt vmcnt(0)", "global_load_dword v3", "v_add_u32"):
        assert text in done.stderr, done.stderr


def test_fresh_memory_is_poisoned(program):
    assert program("print(download(malloc(64), 4, np.uint8))").stdout == "[255 255 255 255]\n"


@pytest.mark.parametrize("operation", ["hipMemcpyHtoD", "hipMemcpyDtoH"])
def test_copies_past_the_end(program, operation):
    order = "c_void_p(device), host.ctypes.data" if operation.endswith("HtoD") else "host.ctypes.data, c_void_p(device)"
    done = program(f"""
    host, device = np.zeros(101, np.int8), malloc(100)
    print(code_of("{operation}", {order.replace("host.ctypes.data", "c_void_p(host.ctypes.data)")}, c_size_t(101)))
    """)
    assert done.stdout == "1\n" and "run over the end of hipMalloc #1" in done.stderr


def test_double_free(program):
    done = program("p = malloc(64)\nprint(code_of('hipFree', c_void_p(p)), code_of('hipFree', c_void_p(p)))")
    assert done.stdout == "0 1\n" and "freed before" in done.stderr
