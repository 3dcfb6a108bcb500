"""Blocks of settings where control does not nest: asyncio tasks, generators, threads; and that jit's cache follows each time."""

import asyncio
import contextlib
import contextvars
import gc
import random
import threading

import jax
import jax.numpy as jnp
import pytest

import jax_aiter
from jax_aiter import config
from jax_aiter.core.arch import FP8

ARCHS = ("gfx942", "gfx950")
X = jnp.ones((2, 4))


def quantiser():
    """A jitted function whose result says under which arch it was traced, and a list of its traces."""
    traces = []

    @jax.jit
    def inner(x):
        return jax_aiter.per_token_quant(x, quant_dtype="fp8")[0]

    @jax.jit
    def run(x):
        traces.append(config.arch)
        return inner(x)

    return run, traces


def nothing_is_set():
    return config.settings == type(config.settings)() and config._blocks._thread().key is None


@pytest.fixture(autouse=True, scope="module")
def _first_use():
    """An op's first use imports parts of JAX, of which one adds to jit's cache key (from jax 0.12 on), so earlier programs miss."""
    jax_aiter.per_token_quant(X, quant_dtype="fp8")


@pytest.fixture(autouse=True)
def _leaves_nothing_set():
    assert nothing_is_set()
    yield
    gc.collect()
    assert nothing_is_set()


def run_tasks(*coroutines):
    async def all_of_them():
        return await asyncio.gather(*coroutines)

    return asyncio.run(all_of_them())


def test_a_block_held_across_await_is_seen_by_its_own_task_only():
    run, traces = quantiser()
    base = run(X).dtype

    async def inside(arch):
        for _ in range(3):
            with config(arch=arch):
                for _ in range(3):
                    assert config.arch == arch
                    assert run(X).dtype == FP8[arch]
                    await asyncio.sleep(0)
            assert config.arch is None
            assert run(X).dtype == base

    async def outside():
        for _ in range(30):
            assert config.arch is None
            assert run(X).dtype == base
            await asyncio.sleep(0)

    run_tasks(inside("gfx942"), outside(), inside("gfx950"), outside())
    # Once without a setting and once per setting: a task that comes back finds what it had compiled.
    assert sorted(traces, key=str) == [None, *ARCHS]


def test_a_program_that_another_task_compiled_is_not_found_under_other_settings():
    """The first call of the waiting task's function by another: what a cache key per thread would answer with its program."""
    run, _ = quantiser()
    order = []

    async def holds():
        with config(arch="gfx950"):
            assert run(X).dtype == FP8["gfx950"]
            order.append("compiled")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert run(X).dtype == FP8["gfx950"]

    async def comes_between():
        await asyncio.sleep(0)
        order.append("between")
        assert run(X).dtype == FP8["gfx942"]

    run_tasks(holds(), comes_between())
    assert order == ["compiled", "between"]


def test_a_task_started_inside_a_block_sees_it_while_it_is_open():
    run, _ = quantiser()

    async def child(ended):
        assert config.arch == "gfx950"
        assert run(X).dtype == FP8["gfx950"]
        await ended.wait()
        assert config.arch is None
        assert run(X).dtype == FP8["gfx942"]

    async def parent():
        ended = asyncio.Event()
        with config(arch="gfx950"):
            task = asyncio.create_task(child(ended))
            await asyncio.sleep(0)
        ended.set()
        await task

    asyncio.run(parent())


def test_a_task_that_is_cancelled_or_fails_inside_a_block_ends_it():
    async def fails(wait):
        with config(arch="gfx950", implementation="xla"):
            await asyncio.sleep(wait)
            raise RuntimeError("on purpose")

    async def main():
        task = asyncio.create_task(fails(60))
        failing = asyncio.create_task(fails(0))
        await asyncio.sleep(0)
        task.cancel()
        results = await asyncio.gather(task, failing, return_exceptions=True)
        assert [type(r) for r in results] == [asyncio.CancelledError, RuntimeError]
        assert config.arch is None

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(4))
def test_many_tasks_interleaved_at_random(seed):
    """Twelve tasks enter, nest, leave and compute; each checks every value against the blocks that it has open itself."""
    run, traces = quantiser()

    async def worker(number):
        rng = random.Random(seed * 100 + number)

        async def nested(depth, arch, implementation):
            for _ in range(rng.randint(1, 3)):
                assert (config.arch, config.implementation) == (arch, implementation)
                assert run(X).dtype == FP8[arch or "gfx942"]
                await asyncio.sleep(0)
                if depth:
                    change = rng.choice([{"arch": "gfx950"}, {"arch": "gfx942"}, {"implementation": "xla"}])
                    with config(**change):
                        await nested(depth - 1, **{"arch": arch, "implementation": implementation, **change})

        await nested(3, None, None)

    run_tasks(*(worker(n) for n in range(12)))
    # Settings that differ are keys that differ, and no more: arch is one of three, implementation one of two.
    assert len(traces) <= 6


def generator(**changes):
    with config(**changes):
        yield config.settings


def test_a_suspended_generator_holds_its_block_until_it_is_closed():
    """As with contextvars, a generator runs in its caller's context: between `next` and `close` the caller is inside the block."""
    run, _ = quantiser()
    g = generator(arch="gfx950")
    assert next(g).arch == "gfx950"
    assert run(X).dtype == FP8["gfx950"]
    g.close()
    assert config.arch is None
    assert run(X).dtype == FP8["gfx942"]


def test_generators_closed_out_of_order():
    run, _ = quantiser()
    first, second, third = generator(arch="gfx950"), generator(implementation="xla"), generator(arch="gfx942")
    for g in (first, second, third):
        next(g)
    assert (config.arch, config.implementation) == ("gfx942", "xla")
    third.close()
    assert (config.arch, run(X).dtype) == ("gfx950", FP8["gfx950"])
    first.close()
    assert (config.arch, config.implementation, run(X).dtype) == (None, "xla", FP8["gfx942"])
    with config(arch="gfx950"):
        second.close()
        assert (config.arch, config.implementation) == ("gfx950", None)
        assert run(X).dtype == FP8["gfx950"]


def test_a_generator_that_nobody_keeps_ends_its_block():
    g = generator(arch="gfx950")
    next(g)
    with config(implementation="xla"):
        del g
        gc.collect()
        assert (config.arch, config.implementation) == (None, "xla")


def test_a_generator_of_one_task_closed_by_another():
    run, _ = quantiser()
    held = []

    async def opens():
        held.append(generator(arch="gfx950"))
        next(held[0])
        assert run(X).dtype == FP8["gfx950"]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert config.arch is None
        assert run(X).dtype == FP8["gfx942"]

    async def closes():
        await asyncio.sleep(0)
        with config(implementation="xla"):
            assert run(X).dtype == FP8["gfx942"]
            held.pop().close()
            assert config.implementation == "xla"

    run_tasks(opens(), closes())


def test_an_async_generator_left_behind_ends_its_block():
    async def counts():
        with config(arch="gfx950"):
            for i in range(3):
                yield i

    async def main():
        async for i in counts():
            assert i == 0
            break
        await asyncio.sleep(0)

    asyncio.run(main())


def test_exit_stacks_unwound_in_any_order():
    stacks = [contextlib.ExitStack() for _ in range(3)]
    for stack, change in zip(stacks, ({"arch": "gfx950"}, {"implementation": "xla"}, {"debug_checks": True}), strict=True):
        stack.enter_context(config(**change))
    assert config.settings == type(config.settings)(arch="gfx950", implementation="xla", debug_checks=True)
    for i, left in ((1, {"arch": "gfx950", "debug_checks": True}), (0, {"debug_checks": True}), (2, {})):
        stacks[i].close()
        assert config.settings == type(config.settings)(**left)


def test_exceptions_end_blocks():
    for error in (ValueError, KeyboardInterrupt, GeneratorExit):
        with pytest.raises(error), config(arch="gfx950"), config(implementation="xla"):
            raise error
        assert config.settings == type(config.settings)()


def test_a_block_is_entered_once_and_a_decorator_as_often_as_its_function():
    block = config(arch="gfx950")
    with block, pytest.raises(RuntimeError, match="entered once"):
        block.__enter__()
    with pytest.raises(RuntimeError, match="entered once"), block:
        pass

    @config(arch="gfx950")
    def arch(again):
        return (config.arch, again and arch(False))

    assert arch(True) == ("gfx950", ("gfx950", False))
    assert arch(False) == ("gfx950", False)
    assert config.arch is None


def test_what_only_makes_a_coroutine_or_generator_is_not_decorated():
    async def coroutine():
        pass

    async def asynchronous():
        yield

    for function in (coroutine, asynchronous, generator):
        with pytest.raises(TypeError, match=rf"inside .*{function.__name__}, use `with"):
            config(arch="gfx950")(function)


def test_threads_have_blocks_of_their_own():
    run, _ = quantiser()
    barrier = threading.Barrier(3, timeout=60)
    failures = []

    def inside(arch):
        try:
            assert config.arch is None  # whatever the thread that started this one has open
            with config(arch=arch):
                for _ in range(20):
                    barrier.wait()
                    assert config.arch == arch
                    assert run(X).dtype == FP8[arch]
            assert run(X).dtype == FP8["gfx942"]
        except BaseException as error:
            failures.append(error)
            barrier.abort()

    with config(implementation="xla"):
        threads = [threading.Thread(target=inside, args=(arch,)) for arch in (*ARCHS, "gfx950")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert config.implementation == "xla"
    assert not failures


def test_a_context_taken_to_another_thread_brings_no_block():
    """The cache key of that thread knows nothing of it: what is read there is what its programs are keyed with."""
    run, _ = quantiser()

    async def main():
        with config(arch="gfx950"):
            assert await asyncio.to_thread(lambda: (config.arch, run(X).dtype)) == (None, FP8["gfx942"])

            def own_block():
                with config(implementation="xla"):
                    return config.arch, config.implementation, run(X).dtype

            assert await asyncio.to_thread(own_block) == (None, "xla", FP8["gfx942"])
            assert run(X).dtype == FP8["gfx950"]

    asyncio.run(main())


def test_a_generator_closed_by_another_thread():
    run, _ = quantiser()
    g = generator(arch="gfx950")
    next(g)
    assert run(X).dtype == FP8["gfx950"]
    thread = threading.Thread(target=g.close)
    thread.start()
    thread.join()
    assert config.arch is None
    assert run(X).dtype == FP8["gfx942"]


def test_a_copied_context_sees_the_block_while_it_is_open():
    run, _ = quantiser()
    with config(arch="gfx950"):
        context = contextvars.copy_context()
        assert context.run(lambda: config.arch) == "gfx950"
    assert context.run(lambda: (config.arch, run(X).dtype)) == (None, FP8["gfx942"])
    empty = contextvars.Context()
    with config(arch="gfx950"):
        assert run(X).dtype == FP8["gfx950"]
        assert empty.run(lambda: (config.arch, run(X).dtype)) == (None, FP8["gfx942"])
        assert run(X).dtype == FP8["gfx950"]


def test_a_program_is_traced_once_per_setting():
    run, traces = quantiser()
    for _ in range(3):
        run(X)
        for arch in ARCHS:
            with config(arch=arch):
                assert run(X).dtype == FP8[arch]
                with config(arch=arch), config():  # changes nothing
                    run(X)
        with config():
            run(X)
    assert traces == [None, *ARCHS]
