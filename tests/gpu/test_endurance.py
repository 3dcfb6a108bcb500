"""A thousand runs with flat memory, and four threads that compile and run at once."""

import resource
from concurrent.futures import ThreadPoolExecutor

import jax

from tests.transforms.common import bound

from .common import OPS, bits, close, every_call, get

MIB = 1 << 20


@every_call
def test_a_thousand_runs_leave_memory_flat(name):
    op, case = get(name)
    operands = case.draw()
    device = jax.devices()[0]
    want = jax.block_until_ready(bound(op, case, "xla")(operands))
    compiled = jax.jit(bound(op, case, "triton")).lower(operands).compile()

    def repeat(count):
        for i in range(count):
            out = compiled(operands)
            if i % 50 == 49:
                jax.block_until_ready(out)
        return jax.block_until_ready(out)

    repeat(100)  # allocators and queues reach their working size
    device_before, host_before = device.memory_stats()["bytes_in_use"], _peak_host()
    last = repeat(1000)
    close(last, want)
    del last
    # The allocator's unit is 256 bytes: even the smallest leak per run would come to four times this.
    assert abs(device.memory_stats()["bytes_in_use"] - device_before) < 64 << 10
    assert _peak_host() - host_before < 64 * MIB


def _peak_host() -> int:
    """Largest resident memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_four_threads_at_once():
    """Each thread compiles its own program of every op, then all run them interleaved."""
    calls = {name: get(name) for name in OPS}
    operands = {name: case.draw() for name, (_, case) in calls.items()}
    want = {name: bound(op, case, "xla")(operands[name]) for name, (op, case) in calls.items()}

    def work(thread: int):
        names = list(calls)[thread:] + list(calls)[:thread]  # another op first in every thread
        programs = {n: jax.jit(lambda x, n=n: bound(*calls[n], "triton")(x)) for n in names}
        first = {n: programs[n](operands[n]) for n in names}
        for _ in range(50):
            last = {n: programs[n](operands[n]) for n in names}
        return first, jax.block_until_ready(last)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(work, range(4)))
    for first, last in found:
        for name in calls:
            close(first[name], want[name], what=name)
            close(last[name], want[name], what=name)
    # The same kernel on the same data in another thread: the same bits, where no two blocks add into one place.
    for name in ("rms_norm", "silu_and_mul"):
        assert len({b"".join(bits(x).tobytes() for x in last[name]) for _, last in found}) == 1
