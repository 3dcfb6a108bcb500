"""Stream capture and graphs follow HIP's rules."""

import pytest

BEGIN = """
s = stream()
call("hipStreamBeginCapture", s, c_int({mode}))
"""

FORBIDDEN = {
    "allocation": 'code_of("hipMalloc", byref(c_void_p()), c_size_t(64))',
    "free": 'code_of("hipFree", c_void_p(early))',
    "stream_synchronize": 'code_of("hipStreamSynchronize", s)',
    "device_synchronize": 'code_of("hipDeviceSynchronize")',
    "stream_query": 'code_of("hipStreamQuery", s)',
    "blocking_copy": 'code_of("hipMemcpyHtoD", c_void_p(early), c_void_p(host.ctypes.data), c_size_t(64))',
}


@pytest.mark.parametrize("mode", [0, 1], ids=["global", "thread_local"])
@pytest.mark.parametrize("what", FORBIDDEN)
def test_forbidden_during_capture(program, what, mode):
    done = program(f"""
    host, early = np.zeros(64, np.int8), malloc(64)
    {BEGIN.format(mode=mode).replace(chr(10), chr(10) + "    ")}
    print({FORBIDDEN[what]})
    graph = c_void_p()
    print(code_of("hipStreamEndCapture", s, byref(graph)), graph.value)
    print(download(malloc(4), 1).size)
    """)
    # Not permitted (900); the capture is then invalid (901) and yields no graph; afterwards all is well.
    assert done.stdout == "900\n901 None\n1\n", done.stderr


def test_allocation_is_allowed_in_relaxed_mode(program):
    done = program(BEGIN.format(mode=2) + FORBIDDEN["allocation"].join(["print(", ")"]))
    assert done.stdout == "0\n"


GRAPH = """
add = function("add")
a, b = upload(np.arange(64, dtype=np.int32)), malloc(256)
s, side = stream(), stream()
call("hipStreamBeginCapture", s, c_int(1))
launch(add, b, a, 64, 1, s)
fork, join = event(), event()
call("hipEventRecord", fork, s)
call("hipStreamWaitEvent", side, fork, c_uint(0))
launch(add, b, b, 64, 10, side)
call("hipEventRecord", join, side)
if {joined}:
    call("hipStreamWaitEvent", s, join, c_uint(0))
    launch(add, b, b, 64, 100, s)
graph = c_void_p()
code = code_of("hipStreamEndCapture", s, byref(graph))
if code:
    print(code)
    raise SystemExit
count = c_size_t()
call("hipGraphGetNodes", graph, None, byref(count))
executable = c_void_p()
call("hipGraphInstantiate", byref(executable), graph, None, None, c_size_t(0))
for _ in range(2):
    call("hipGraphLaunch", executable, s)
call("hipStreamSynchronize", s)
print(count.value, download(b, 3))
"""


def test_fork_and_join(program):
    assert program(GRAPH.format(joined=True)).stdout == "3 [111 112 113]\n"


def test_unjoined_fork(program):
    assert program(GRAPH.format(joined=False)).stdout == "904\n"


def test_nothing_runs_while_capturing(program):
    done = program("""
    fill = function("fill")
    b = upload(np.zeros(64, np.int32))
    s = stream()
    call("hipStreamBeginCapture", s, c_int(1))
    launch(fill, b, 0, 64, 9, s)
    graph = c_void_p()
    call("hipStreamEndCapture", s, byref(graph))
    print(download(b, 1))
    """)
    assert done.stdout == "[0]\n"


def test_update_of_an_executable_graph(program):
    done = program("""
    class Params(ctypes.Structure):
        _fields_ = [("block", c_uint * 3), ("extra", c_void_p), ("func", c_void_p), ("grid", c_uint * 3),
                    ("params", c_void_p), ("lds", c_uint)]
    def node_params(value):
        arguments = params(b, 0, 64, value)
        p = Params((c_uint * 3)(64, 1, 1), None, fill, (c_uint * 3)(1, 1, 1), ctypes.cast(arguments, c_void_p), 0)
        p.keep = arguments
        return p
    fill, b, s = function("fill"), malloc(256), stream()
    graph, node, executable = c_void_p(), c_void_p(), c_void_p()
    call("hipGraphCreate", byref(graph), c_uint(0))
    call("hipGraphAddKernelNode", byref(node), graph, None, c_size_t(0), byref(node_params(5)))
    call("hipGraphInstantiate", byref(executable), graph, None, None, c_size_t(0))
    call("hipGraphLaunch", executable, s)
    call("hipGraphExecKernelNodeSetParams", executable, node, byref(node_params(6)))
    call("hipStreamSynchronize", s)
    print(download(b, 1))
    call("hipGraphLaunch", executable, s)
    call("hipStreamSynchronize", s)
    print(download(b, 1))
    """)
    # What was launched before the update keeps its parameters.
    assert done.stdout == "[5]\n[6]\n", done.stderr
