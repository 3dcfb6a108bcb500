"""Launching, memory accounting, and what is not supported."""

import json

import vgpu


def test_both_ways_of_passing_arguments(program):
    done = program("""
    add, a, b = function("add"), upload(np.arange(100, dtype=np.int32)), malloc(400)
    launch(add, b, a, 100, 5)
    print((download(b, 100) == np.arange(100) + 5).all())
    launch_buffer(add, b, a, 100, 6)
    print((download(b, 100) == np.arange(100) + 6).all())
    """)
    assert done.stdout == "True\nTrue\n", done.stderr


def test_out_of_memory(program):
    done = program("""
    first = malloc(700 << 20)
    print(code_of("hipMalloc", byref(c_void_p()), c_size_t(400 << 20)))
    free, total = c_size_t(), c_size_t()
    call("hipMemGetInfo", byref(free), byref(total))
    print(free.value >> 20, total.value >> 20)
    call("hipFree", c_void_p(first))
    print(code_of("hipMalloc", byref(c_void_p()), c_size_t(400 << 20)))
    """, vgpu.Options(memory=1))  # fmt: skip
    assert done.stdout == "2\n324 1024\n0\n", done.stderr


def test_bad_launches_are_refused_at_once(program):
    done = program("""
    fill, b = function("fill"), malloc(256)
    p = params(b, 0, 64, 1)
    def launch_with(*numbers):
        print(code_of("hipModuleLaunchKernel", fill, *map(c_uint, numbers), None, p, None))
    launch_with(1, 1, 1, 2048, 1, 1, 0)      # too many work-items
    launch_with(0, 1, 1, 64, 1, 1, 0)        # empty grid
    launch_with(1, 1, 1, 64, 1, 1, 65537)    # too much LDS
    launch_with(1 << 31, 1, 1, 64, 1, 1, 0)  # 2^37 work-items
    print(code_of("hipModuleLaunchKernel", c_void_p(64), *map(c_uint, (1, 1, 1, 64, 1, 1, 0)), None, p, None))
    """)
    assert done.stdout.split() == ["9", "9", "1", "9", "98"], done.stderr


def test_functions_nobody_needs_refuse_and_say_so(program):
    done = program("print(code_of('hipMallocPitch', None, None, c_size_t(1), c_size_t(1)))")
    assert done.stdout == "801\n" and "hipMallocPitch is not supported" in done.stderr


def test_the_process_goes_on_after_a_failed_kernel(program):
    done = program("""
    fill, b = function("fill"), malloc(256)
    try:
        launch(fill, b, 0, 65, 1)
    except HipError as error:
        print(error.code)
    launch(fill, b, 0, 64, 2)
    print(download(b, 64).sum())
    """)
    assert done.stdout == "719\n128\n", done.stderr


def test_default_stream_orders_blocking_streams(program):
    done = program("""
    slow, add, a = function("slow_add"), function("add"), upload(np.zeros(64, np.int32))
    b, blocking = malloc(256), handle("hipStreamCreateWithFlags", c_uint(0))
    launch(slow, a, a, 64, 20000, blocking)
    launch(add, b, a, 64, 10)                # null stream: after the above
    launch(add, b, b, 64, 100, blocking)     # and before this
    print(download(b, 1))
    """, vgpu.Options(check="none"))  # fmt: skip
    assert done.stdout == "[111]\n", done.stderr


def test_profile_counts_are_deterministic(program, tmp_path):
    text = 'add, a = function("add"), upload(np.zeros(100, np.int32))\nlaunch(add, a, a, 100, 1)\ndownload(a, 1)'
    lines = []
    for run in range(2):
        path = tmp_path / f"{run}.jsonl"
        assert program(text, vgpu.Options(profile=str(path))).returncode == 0
        (line,) = path.read_text().splitlines()
        lines.append(json.loads(line))
    assert lines[0] == lines[1]
    counts = lines[0]
    assert (counts["kernel"], counts["grid"], counts["block"]) == ("add", [2, 1, 1], [64, 1, 1])
    assert (counts["workgroups"], counts["waves"]) == (2, 2)
    assert (counts["bytes_loaded"], counts["bytes_stored"]) == (400, 400)  # 100 active lanes of 128
    classes = ["salu", "smem", "valu", "mfma", "lds", "flat", "global", "scratch", "buffer", "branch", "other"]
    assert sum(counts[c] for c in classes) == counts["instructions"] > 0
