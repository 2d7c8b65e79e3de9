"""The worker at the Jupyter server's /metrics, prefixed `nbllama_`: from the last look at it, never from a new one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client.core import REGISTRY, CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry


class WorkerMetrics(Collector):
    """Reads `status` at each scrape."""

    def __init__(self, status: Callable[[], dict[str, Any]]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status = self._status()
        models = status["models"]
        loaded = [model for model in models if model["state"] == "loaded"]
        total = status["requests_total"]
        yield CounterMetricFamily("nbllama_requests", "Requests that the worker has taken since it started.", total)
        yield _gauge("worker_up", "1 if a worker answers.", int(status["pid"] is not None))
        yield _gauge(
            "requests_running",
            "Requests that are being answered, those that wait included.",
            status["requests_running"],
        )
        yield _gauge("requests_waiting", "Requests that wait for a place.", status["requests_waiting"])
        yield _gauge("worker_resident_memory_bytes", "Memory of the worker.", status.get("rss_bytes", 0))
        yield _gauge("worker_uptime_seconds", "Since the worker started.", status.get("uptime_s", 0))
        yield _gauge("models_loaded", "Models in memory.", len(loaded))
        yield self._attached(status)
        yield self._loads(models)

    def _attached(self, status: dict[str, Any]) -> Metric:
        family = GaugeMetricFamily("nbllama_attached", "Programs attached to the worker.", labels=["kind"])
        for kind, n in status.get("attached_as", {}).items():
            family.add_metric([kind], n)
        return family

    def _loads(self, models: list[dict[str, Any]]) -> Metric:
        family = GaugeMetricFamily("nbllama_model_load_ratio", "How far a model is loaded, 0 to 1.", labels=["model"])
        for model in models:
            family.add_metric([model["id"]], model.get("load", 0))
        return family


class Registration:
    """The metrics in a registry, until `end`. A second extension in one process shows its own instead."""

    _current: WorkerMetrics | None = None

    @classmethod
    def begin(cls, metrics: WorkerMetrics, registry: CollectorRegistry = REGISTRY) -> None:
        cls.end(registry)
        registry.register(metrics)
        cls._current = metrics

    @classmethod
    def end(cls, registry: CollectorRegistry = REGISTRY) -> None:
        if cls._current is not None:
            registry.unregister(cls._current)
            cls._current = None


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"nbllama_{name}", text, value)
