"""`%llama status` and `%llama models`: what runs and which models there are, in lines."""

from __future__ import annotations

from collections.abc import Callable

from nbllama.notebook.kernel_link import is_elsewhere, link
from nbllama.notebook.magics.jupyter_server import server_help
from nbllama.notebook.magics.running import progress_of
from nbllama.notebook.served_models import model_entries, model_ids, model_line
from nbllama.worker import connection


def status_text() -> str:
    """Starts nothing. Raises NbllamaError."""
    detour = link.detour
    lines = [] if detour is not None and detour.instead else [_worker_status()]
    lines += [f"cassette    {detour.told()}"] if detour is not None else []
    if not is_elsewhere():
        lines += [f"warning     {other}" for other in connection.other_workers()]
    if (text := server_help()) is not None:
        lines.append(f"Jupyter     {text}")
    return "\n".join(lines)


def _worker_status() -> str:
    endpoint = link.running()
    if endpoint is None:
        return "no worker is running; one starts when you ask"
    status = connection.request_json(endpoint, "GET", "/nbllama/status")
    memory, minutes = status["rss_bytes"] / 1e6, status["uptime_s"] / 60
    lines = [
        f"worker      pid {status['pid']}, nbllama {status['version']}, {memory:,.0f} MB, up {minutes:.0f} min",
        f"requests    {status['requests_total']} so far, {status['requests_running']} running, "
        f"{status['requests_waiting']} waiting",
    ]
    lines += [f"model       {model_line(model)}" for model in status["models"]]
    lines += [f"hint        {model['hint']}" for model in status["models"] if model.get("hint")]
    lines += [f"warning     {warning}" for model in status["models"] for warning in model.get("warnings", [])]
    lines += [f"built with  {model['build']}" for model in status["models"] if model.get("build")]
    lines += [f"request     {request.get('model')}: {progress_of(request)}" for request in status.get("requests", [])]
    attached = ", ".join(f"{kind} {n}" for kind, n in sorted(status.get("attached_as", {}).items()))
    return "\n".join([*lines, f"attached    {attached}"] if attached else lines)


def models_text(say: Callable[[str], None]) -> str:
    """A line a model; a worker is started for it. Raises NbllamaError."""
    endpoint = link.endpoint(on_wait=say)
    if not endpoint.is_worker:
        return "\n".join(model_ids(endpoint))
    # Refused with the reason if the default is no model; status passes over that.
    model_ids(endpoint)
    models = model_entries(endpoint)
    return "\n".join([model_line(model) for model in models] + [model["hint"] for model in models if model.get("hint")])
