"""An engine over two GPUs answers as on one of them; with `-s`, tokens per second of both. Two processes of a GPU each too.

`tests.gpu.served` makes the plans ahead.
"""

import os
import time

import jax
import pytest

import jax_aiter
from examples.llm.serving.engine import Engine
from examples.llm.serving.request import Logprob
from examples.llm.serving.runner import Runner
from tests.examples.llm.distributed import models, together
from tests.examples.llm.distributed.served import SETTINGS, Silent
from tests.examples.llm.distributed.served import answers as one_device
from tests.gpu import served
from tests.gpu.served import CASES, MESHES, Case

pytestmark = pytest.mark.skipif(jax.default_backend() != "gpu" or jax.local_device_count() < 2, reason="needs two GPUs")

Answer = list[Logprob]


@pytest.fixture(scope="module")
def on_one():
    """By case: its parameters, and what one GPU answers."""
    found = {}

    def get(name: str):
        if name not in found:
            params = CASES[name].params()
            found[name] = params, answers(CASES[name], served.runner(CASES[name], params, None), f"{name}, one GPU")
        return found[name]

    return get


def answers(case: Case, runner, what: str) -> list[Answer]:
    """Of each request its tokens with their logarithms; says the rate of a second round, of which nothing is compiled."""
    runner.warm_up()
    for _ in range(2):
        engine = Engine(runner, Silent())
        requests = case.asked(engine)
        found: dict[int, Answer] = {request.id: [] for request in requests}
        begin = time.perf_counter()
        for request in requests:
            engine.add(request)
        while engine.busy:
            for request, update in engine.step():
                found[request.id] += update.logprobs
        seconds = time.perf_counter() - begin
        assert engine.pool.free == engine.pool.count
    count = sum(map(len, found.values()))
    assert count == case.requests * case.tokens
    print(f"\n{what}: {case.requests} requests, {count} tokens, {count / seconds:,.0f} tokens/s")
    return list(found.values())


def agreeing(want: list[Answer], got: list[Answer], tie: float) -> int:
    """Tokens that are the same, of each request up to the first that is another: it ties with the one it takes the place of."""
    same = 0
    for i, (a, b) in enumerate(zip(want, got, strict=True)):
        for place, (x, y) in enumerate(zip(a, b, strict=True)):
            if x.token != y.token:
                other = dict(x.top).get(y.token)
                assert other is not None, f"request {i}, token {place}: {y.token} is not among {x.top}"
                assert x.value - other <= tie, f"request {i}, token {place}: {y.token} is {x.value - other} behind {x.token}"
                break
            assert abs(x.value - y.value) <= tie, f"request {i}, token {place}: {x.value}, {y.value}"
            same += 1
    return same


@pytest.mark.parametrize("sizes", MESHES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_an_engine_answers_as_on_one_gpu(name, sizes, on_one):
    case = CASES[name]
    params, want = on_one(name)
    got = answers(case, served.runner(case, params, sizes), f"{name}, {sizes}")
    same = agreeing(want, got, case.tie)
    print(f"{same} of {case.requests * case.tokens} tokens before a tie falls the other way")
    assert same >= case.requests * case.tokens // 2


def test_the_programs_run_kernels():
    """The widths are those of a real model so that they do."""
    case = CASES["wide"]
    lowered = [p.trace(*given, **static).lower() for what, p, given, static in served.programs(case) if "Shape(" in what[:6]]
    assert len(lowered) == (1 + len(MESHES)) * len(case.settings.shapes)
    for program in lowered:
        assert "jax_aiter" in program.as_text()


@pytest.mark.parametrize("sizes", MESHES, ids=str)
def test_two_processes_of_a_gpu_each(sizes):
    """Joined by `jax.distributed`, through NCCL: a session, and an engine whose steps process 0 says to process 1. In exact float32
    on the references, so that all tokens are one device's, drawn ones too.
    """
    exact = {"JAX_DEFAULT_MATMUL_PRECISION": "highest", "JAX_AITER_IMPLEMENTATION": "xla", "JAX_PLATFORMS": "cuda,cpu"}
    each = [exact | {"CUDA_VISIBLE_DEVICES": device} for device in os.environ.get("CUDA_VISIBLE_DEVICES", "0,1").split(",")[:2]]
    ranks, outputs = together.answers(",".join(f"{name}={size}" for name, size in sizes.items()), 1, 0, each)
    assert [p.returncode for p in ranks] == [0, 0], outputs
    with jax.default_matmul_precision("highest"), jax_aiter.config(implementation="xla"):
        params = models.params()
        session, engine = models.on_one(params), one_device(Runner(params, models.CONFIG, SETTINGS))
    for rank, out in enumerate(outputs):
        assert f"rank {rank}: 1 of 2 devices answer {session}" in out
    assert f"rank 0: serves {engine}" in outputs[0]
    assert "rank 1: serves" in outputs[1]
