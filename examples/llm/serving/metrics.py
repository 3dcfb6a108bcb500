"""What Prometheus reads: the engine's own counts, looked at when asked, and how long requests took."""

import time
from collections.abc import Iterator

import jax.monitoring
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from examples.llm.serving.engine import Engine
from examples.llm.serving.request import Request

PREFIX = "jax_aiter_llm"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics(Collector):
    """registry: all of it. compiled: programs since this object is there, that is after warm-up: more than none delays requests."""

    def __init__(self, engine: Engine):
        self.engine, self.compiled = engine, 0
        self.registry = CollectorRegistry()
        self.registry.register(self)
        times = {"buckets": _SECONDS, "registry": self.registry}
        self._first = Histogram(f"{PREFIX}_time_to_first_token_seconds", "From a request's arrival to its first token.", **times)
        self._whole = Histogram(f"{PREFIX}_request_seconds", "From a request's arrival to its end.", **times)
        self._each = Histogram(f"{PREFIX}_time_per_token_seconds", "Of a request, between tokens after the first.", **times)
        jax.monitoring.register_event_duration_secs_listener(self._event)

    def close(self) -> None:
        jax.monitoring.unregister_event_duration_listener(self._event)

    def _event(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
        del duration_secs, kwargs
        self.compiled += event.endswith("backend_compile_duration")

    def finished(self, request: Request) -> None:
        now = time.monotonic()
        self._whole.observe(now - request.arrived)
        if request.first_token is not None:
            self._first.observe(request.first_token - request.arrived)
            if request.generated > 1:
                self._each.observe((now - request.first_token) / (request.generated - 1))

    def collect(self) -> Iterator[Metric]:
        counts, pool, scheduler = self.engine.counts, self.engine.pool, self.engine.scheduler
        for name, text, value in (
            ("steps", "Batches that were computed.", counts.steps),
            ("computed_tokens", "Tokens whose keys and values were computed, those of preempted requests again.", counts.computed),
            ("prompt_tokens", "Tokens of prompts.", counts.prompt),
            ("reused_tokens", "Tokens of prompts that were found in the cache.", counts.reused),
            ("generated_tokens", "Tokens of answers.", counts.generated),
            ("preemptions", "Requests that gave up their blocks to be computed again.", scheduler.preemptions),
            ("compilations", "Programs that were compiled after warm-up.", self.compiled),
        ):
            yield CounterMetricFamily(f"{PREFIX}_{name}", text, value=value)
        for name, text, value in (
            ("running_requests", "Requests that hold blocks.", len(scheduler.running)),
            ("waiting_requests", "Requests that do not.", len(scheduler.waiting)),
            ("blocks", "Blocks of the cache.", pool.count),
            ("free_blocks", "Of them, those that no request holds.", pool.free),
            ("cached_blocks", "Of the free ones, those whose tokens can be found again.", pool.cached),
        ):
            yield GaugeMetricFamily(f"{PREFIX}_{name}", text, value=value)
        finished = CounterMetricFamily(f"{PREFIX}_requests", "Requests that ended, by how.", labels=["finish"])
        for reason, value in list(counts.finished.items()):
            finished.add_metric([reason], value)
        yield finished
