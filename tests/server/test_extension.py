"""The extension without a server: its routes, its settings, who is authenticated by what."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from jupyter_server.auth.identity import IdentityProvider, PasswordIdentityProvider
from jupyter_server.serverapp import ServerApp
from prometheus_client.registry import CollectorRegistry
from tornado.httputil import HTTPHeaders
from tornado.web import Application

import nbllama
from nbllama.server import handlers
from nbllama.server.extension import NbllamaApp
from nbllama.server.metrics import Registration, WorkerMetrics
from nbllama.server.worker_watch import NOTHING_RUNS, WorkerWatch
from nbllama.worker.settings import Settings

VERBS = ("get", "head", "post", "put", "patch", "delete")
ROOT = Path(__file__).resolve().parents[2]


def handler_for(path: str, api_prefix: str = "") -> type | None:
    """The first match below the base URL, as Tornado takes it."""
    return next((handler for pattern, handler in handlers.routes(api_prefix) if re.fullmatch(pattern, path)), None)


@pytest.mark.parametrize("prefix", ["", "nbllama/"])
@pytest.mark.parametrize(
    ("path", "handler"),
    [
        ("v1/messages", handlers.MessagesHandler),
        ("v1/messages/count_tokens", handlers.CountTokensHandler),
        ("v1/models", handlers.ModelsHandler),
        ("v1/models/a%2Fb", handlers.ModelsHandler),
        ("v1/models/a/b", handlers.UnknownHandler),
        ("v1/messages/batches", handlers.UnknownHandler),
        ("v1/", handlers.UnknownHandler),
        ("v1", handlers.UnknownHandler),
    ],
)
def test_the_api_is_below_the_base_url_and_below_nbllama(prefix: str, path: str, handler: type) -> None:
    assert handler_for(prefix + path) is handler


def test_the_projects_own_routes() -> None:
    assert handler_for("nbllama/status") is handlers.StatusHandler
    assert handler_for("nbllama/traces/req_1") is handlers.WorkerHandler
    assert handler_for("nbllama/load") is handlers.WorkerHandler
    assert handler_for("lab") is None
    assert handler_for("v1x") is None


def test_the_prefix_moves_the_api_and_leaves_the_alias() -> None:
    assert handler_for("llm/v1/messages", "llm") is handlers.MessagesHandler
    assert handler_for("nbllama/v1/messages", "llm") is handlers.MessagesHandler
    assert handler_for("v1/messages", "llm") is None


@pytest.mark.parametrize("handler", dict.fromkeys(route[1] for route in handlers.routes("")))
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_authenticated_and_authorized_in_its_own_class(handler: type, verb: str) -> None:
    inherited = [base for base in handler.__mro__[1:] if base.__module__ == handlers.__name__ and verb in vars(base)]
    assert not inherited
    method: Any = vars(handler).get(verb)
    if method is not None:
        assert method.__code__.co_qualname == "authenticated.<locals>.wrapper"
        authorized = method.__wrapped__
        assert authorized.__code__.co_qualname == "authorized.<locals>.wrapper.<locals>.inner"
        named = dict(zip(authorized.__code__.co_freevars, authorized.__closure__, strict=True))
        assert named["resource"].cell_contents == "nbllama"
        assert named["action"].cell_contents == ("read" if verb in ("get", "head") else "write")


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ({"X-Api-Key": "k"}, "token k"),
        ({"X-Api-Key": "k", "Authorization": "Basic of-a-proxy"}, "token k"),
        ({"X-Api-Key": "k", "Authorization": "Bearer b"}, "Bearer b"),
        ({"X-Api-Key": "k", "Authorization": "token b"}, "token b"),
        ({"Authorization": "Basic of-a-proxy"}, "Basic of-a-proxy"),
        ({}, None),
    ],
)
def test_an_api_key_becomes_jupyters_token(sent: dict[str, str], seen: str | None) -> None:
    headers = HTTPHeaders(sent)
    handlers._let_api_key_in(headers)
    assert headers.get("Authorization") == seen


class User:
    username = "bob"


def test_who_asks_is_local_but_for_another_hub_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUPYTERHUB_USER", raising=False)
    assert handlers._client(User()) == "local"
    monkeypatch.setenv("JUPYTERHUB_USER", "bob")
    assert handlers._client(User()) == "local"
    monkeypatch.setenv("JUPYTERHUB_USER", "alice")
    assert handlers._client(User()) == "bob"


class HubProvider(IdentityProvider):
    pass


@pytest.mark.parametrize(
    ("provider", "needs"),
    [
        (IdentityProvider(token="t"), False),
        (IdentityProvider(token=""), True),
        (PasswordIdentityProvider(token="", hashed_password="x"), True),
        (HubProvider(token=""), False),
    ],
)
def test_a_server_without_a_token_is_noticed(provider: IdentityProvider, needs: bool) -> None:
    app = NbllamaApp()
    app.serverapp = ServerApp()
    app.serverapp.identity_provider = provider
    assert app.needs_token() is needs


def test_settings_of_files_yield_to_the_environment_and_typed_ones_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NBLLAMA_MODEL", raising=False)
    app = NbllamaApp(model="from-file.gguf")
    app.serverapp = ServerApp()
    assert app._chosen("model", "NBLLAMA_MODEL") == "from-file.gguf"
    monkeypatch.setenv("NBLLAMA_MODEL", "smollm2")
    assert app._chosen("model", "NBLLAMA_MODEL") is None
    app.parse_command_line(["--NbllamaApp.model=typed.gguf"])
    assert app._chosen("model", "NBLLAMA_MODEL") == "typed.gguf"


def test_work_seen_at_the_worker_counts_as_activity() -> None:
    seen: list[dict[str, Any]] = []
    watch = WorkerWatch(lambda: seen.append(watch.status))
    idle = {**NOTHING_RUNS, "pid": 7, "requests_total": 40}
    watch.take(idle)
    watch.take(idle)
    assert (seen, watch.busy) == ([], False)
    running = {**idle, "requests_running": 1}
    watch.take(running)
    assert (seen, watch.busy) == ([running], True)
    done = {**idle, "requests_total": 41}
    watch.take(done)
    assert (seen, watch.busy) == ([running, done], False)
    watch.take(NOTHING_RUNS)
    assert len(seen) == 2


def test_a_server_with_a_busy_worker_is_active() -> None:
    app = NbllamaApp()
    app.serverapp = ServerApp()
    app.serverapp.web_app = Application()  # type: ignore[assignment]  # its settings are all that is used
    app.initialize_settings()
    assert not app.current_activity()
    app.watch.take({**NOTHING_RUNS, "pid": 7, "requests_running": 1})
    assert app.current_activity()
    assert "nbllama_last_activity" in app.serverapp.web_app.settings


def test_metrics_name_what_the_last_look_saw() -> None:
    models = [{"id": "a", "state": "loaded", "load": 1.0}, {"id": "b", "state": "loading", "load": 0.5}]
    counts = {"requests_total": 9, "requests_running": 2, "requests_waiting": 1, "attached_as": {"kernel": 2}}
    status = {"pid": 7, "models": models, "rss_bytes": 1000, "uptime_s": 3.5, **counts}
    registry = CollectorRegistry()
    Registration.begin(WorkerMetrics(lambda: NOTHING_RUNS), registry)
    Registration.begin(WorkerMetrics(lambda: status), registry)

    assert registry.get_sample_value("nbllama_requests_total") == 9
    assert registry.get_sample_value("nbllama_requests_running") == 2
    assert registry.get_sample_value("nbllama_models_loaded") == 1
    assert registry.get_sample_value("nbllama_worker_up") == 1
    assert registry.get_sample_value("nbllama_attached", {"kind": "kernel"}) == 2
    assert registry.get_sample_value("nbllama_model_load_ratio", {"model": "b"}) == 0.5
    Registration.end(registry)
    assert registry.get_sample_value("nbllama_worker_up") is None


def test_the_hook_names_the_app() -> None:
    assert nbllama._jupyter_server_extension_points() == [{"module": "nbllama", "app": NbllamaApp}]


def test_the_extension_is_enabled_where_it_is_installed() -> None:
    config = json.loads((ROOT / "jupyter-config/server-config/nbllama.json").read_text())
    assert config == {"ServerApp": {"jpserver_extensions": {"nbllama": True}}}


def test_every_setting_says_what_it_is() -> None:
    traits = NbllamaApp.class_own_traits(config=True)
    assert set(traits) >= {"model", "ctx", "api_prefix"}
    assert all(len(trait.help) > 40 for name, trait in traits.items() if name in ("model", "ctx", "api_prefix"))


def test_every_setting_of_the_worker_is_known_here() -> None:
    # Jupyter would call one that is not a setting it does not recognise.
    assert {field.name for field in dataclasses.fields(Settings)} <= set(NbllamaApp.class_own_traits(config=True))
