"""How a profiler's events are told apart in the comparison with torch: needs neither GPU nor torch."""

from types import SimpleNamespace as Record

import pytest

from benchmarks.h200 import device_time, trace
from benchmarks.h200.trace import Kernel, NoDeviceEvents


def events(turns=3, ours=(100.0,), theirs=(90.0,)):
    """A plan of kernels a, b, a, run in placements by torch and by us in turns, with another kernel between."""
    found, clock = [], 0.0
    for _ in range(turns):
        for stream, duration in (*(("7", each) for each in theirs), *(("13", each) for each in ours)):
            for name in ("a", "b", "a"):
                found.append(Kernel(name, clock, duration, stream))
                clock += 200.0
        found.append(Kernel("memset", clock, 5.0, "13"))
        clock += 200.0
    return found


def test_events_are_told_apart_by_order():
    torch_ns, ours_ns = device_time.attributed(events(), ["a", "b", "a"], 1, 3)
    assert torch_ns == [[[90.0] * 3]] * 3
    assert ours_ns == [[[100.0] * 3]] * 3


def test_placements_are_told_apart():
    torch_ns, ours_ns = device_time.attributed(events(4, ours=(3.0, 4.0), theirs=(1.0, 2.0)), ["a", "b", "a"], 2, 4)
    assert torch_ns == [[[1.0] * 4, [2.0] * 4]] * 3
    assert ours_ns == [[[3.0] * 4, [4.0] * 4]] * 3


@pytest.mark.parametrize("lost", [0, 4, -2])
def test_a_lost_event_is_noticed(lost):
    found = events()
    del found[lost]
    with pytest.raises(device_time.TraceError, match=r"6 runs of \['a', 'b', 'a'\] were made"):
        device_time.attributed(found, ["a", "b", "a"], 1, 3)


def test_streams_must_differ():
    found = [Kernel(k.name, k.start, k.duration, "7") for k in events()]
    with pytest.raises(device_time.TraceError, match="share a stream"):
        device_time.attributed(found, ["a", "b", "a"], 1, 3)


def test_middle_is_finer_than_a_tick_and_ignores_outliers():
    assert device_time.middle([1.0, 32.0, 32.0, 32.0, 64.0, 64.0, 64.0, 1e9]) == 48.0
    assert device_time.middle([5.0]) == 5.0


def test_planes_give_the_streams_of_gpus_only():
    def line(name, *rows):
        return Record(name=name, events=[Record(name=n, start_ns=s, duration_ns=d) for n, s, d in rows])

    planes = [
        Record(name="/host:CPU", lines=[line("python", ("f", 0, 9))]),
        Record(name="/device:GPU:0", lines=[line("Stream #7(Kernel)", ("b", 20, 2)), line("XLA Ops", ("b", 20, 2))]),
        Record(name="/device:GPU:1", lines=[line("Stream #13", ("a", 10, 1))]),
    ]
    found = trace.from_planes(planes)
    assert [(k.name, k.duration) for k in found] == [("a", 1), ("b", 2)]
    assert len({k.stream for k in found}) == 2
    with pytest.raises(NoDeviceEvents, match="recorded no event of a GPU"):
        trace.from_planes(planes[:1])


def test_a_chrome_trace_gives_kernels_in_nanoseconds():
    kernel = {"cat": "kernel", "name": "a", "ts": 2.0, "dur": 1.5, "args": {"stream": 7}}
    assert trace.from_chrome({"traceEvents": [{"cat": "cpu_op"}, kernel]}) == [Kernel("a", 2000.0, 1500.0, "stream 7")]
    with pytest.raises(NoDeviceEvents, match="no kernel of a GPU"):
        trace.from_chrome({"traceEvents": []})


def test_a_profiler_that_sees_only_our_launches_is_passed_over(monkeypatch):
    half = [Kernel("a", 0, 1, "13")]
    monkeypatch.setattr(trace, "TRACERS", {"jax": lambda run: half, "torch": lambda run: half * 2})
    assert trace.choose(["jax", "torch"], lambda: None, {"a": 2}) == "torch"
    with pytest.raises(NoDeviceEvents, match=r"launched \{'a': 2\}, seen \{'a': 1\}"):
        trace.choose(["jax"], lambda: None, {"a": 2})


def test_this_machines_own_profiler_is_refused_without_a_gpu():
    """The real reader, on a machine whose trace has no GPU plane."""
    with pytest.raises(NoDeviceEvents, match=r"/host:CPU"):
        trace.with_jax(lambda: None)


def test_the_comparison_covers_every_op_with_kernels():
    from jax_aiter.kernels.triton.adapters import adapters

    labels = [case.label for case in device_time.cases("sm_90", set())]
    assert {label.split("/")[0] for label in labels} == set(adapters())
    assert len(labels) == len(set(labels))


def test_the_table_names_what_is_over_the_limit():
    good = {"case": "x/1", "ours_us": 1.0, "torch_us": 1.0, "ratio": 1.0, "torch_spread": [0.98, 1.03], "kernels": [{}]}
    rows = [good, {**good, "case": "x/2", "ours_us": 1.5, "ratio": 1.5}, {"case": "x/3", "failed": "E"}]
    text = device_time.table({"device": "card", "jax": "0", "torch": "2", "profiler": "jax", "rows": rows})
    assert "tick of 32 ns per kernel: x/2." in text
    assert "| 1.500 | 0.980 to 1.030 |" in text
    assert "| x/3 | failed: E |" in text
