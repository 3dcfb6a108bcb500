"""Stream-ordered allocation: hipMallocAsync and hipFreeAsync."""

import vgpu

SETUP = """
def malloc_async(size, on):
    pointer = c_void_p()
    call("hipMallocAsync", byref(pointer), c_size_t(size), on)
    return pointer.value
def free_bytes():
    free, total = c_size_t(), c_size_t()
    call("hipMemGetInfo", byref(free), byref(total))
    return free.value
"""


def test_memory_is_given_back_when_the_stream_gets_there(program):
    done = program(SETUP + """
slow, add, source = function("slow_add"), function("add"), upload(np.full(64, 5, np.int32))
out, on, before = malloc(256), stream(), free_bytes()
middle = malloc_async(1 << 20, on)
print(before - free_bytes() >= 1 << 20)
launch(slow, middle, source, 64, 200000, on)     # still running when the free is queued
launch(add, out, middle, 64, 1, on)
call("hipFreeAsync", c_void_p(middle), on)
call("hipStreamSynchronize", on)
print(download(out, 64).sum(), free_bytes() == before)
""", vgpu.Options(check="none"))  # fmt: skip
    assert done.stdout == "True\n448 True\n", done.stderr


def test_use_after_asynchronous_free(program):
    text = (
        SETUP
        + """
fill, on = function("fill"), stream()
buffer = malloc_async(256, on)
launch(fill, buffer, 0, 64, 3, on)
if {free}:
    call("hipFreeAsync", c_void_p(buffer), on)
launch(fill, buffer, 0, 64, 3, on)
call("hipStreamSynchronize", on)
print("ran")
"""
    )
    assert program(text.format(free=False)).stdout == "ran\n"
    done = program(text.format(free=True))
    assert done.returncode != 0 and "global_store_dword" in done.stderr and "free" in done.stderr, done.stderr


def test_allocation_during_capture(program):
    done = program(SETUP + """
on = stream()
call("hipStreamBeginCapture", on, c_int(CAPTURE_GLOBAL))
pointer = c_void_p()
print(code_of("hipMallocAsync", byref(pointer), c_size_t(64), on) == CAPTURE_UNSUPPORTED)
graph = c_void_p()
print(code_of("hipStreamEndCapture", on, byref(graph)) == CAPTURE_INVALIDATED)
""")  # fmt: skip
    assert done.stdout == "True\nTrue\n", done.stderr


def test_pool_functions(program):
    done = program(SETUP + """
pool, on, pointer, before = c_void_p(), stream(), c_void_p(), free_bytes()
call("hipDeviceGetDefaultMemPool", byref(pool), c_int(0))
call("hipMallocFromPoolAsync", byref(pointer), c_size_t(4096), pool, on)
print(before > free_bytes())
call("hipFreeAsync", pointer, on)
call("hipStreamSynchronize", on)
print(before == free_bytes())
print(code_of("hipMallocAsync", byref(pointer), c_size_t(2 << 30), on) == OUT_OF_MEMORY)
print(code_of("hipFreeAsync", c_void_p(4096), on) == INVALID_VALUE)
call("hipFreeAsync", None, on)
""", vgpu.Options(memory=1))  # fmt: skip
    assert done.stdout == "True\nTrue\nTrue\nTrue\n", done.stderr
