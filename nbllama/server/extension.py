"""The Jupyter server extension: Jupyter's login is the key, and the user's worker answers.

{base_url}v1/…            the Anthropic API (moved by `api_prefix`)
{base_url}nbllama/v1/…    the same, wherever `api_prefix` points
{base_url}nbllama/…       nbllama's own: status, traces, load, tokenize …
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

from jupyter_server.auth.identity import IdentityProvider, PasswordIdentityProvider
from jupyter_server.extension.application import ExtensionApp
from traitlets import Any as AnyTrait
from traitlets import Int, Unicode

from nbllama._version import __version__
from nbllama.server.handlers import routes
from nbllama.server.metrics import Registration, WorkerMetrics
from nbllama.server.worker_watch import WorkerWatch
from nbllama.worker import connection
from nbllama.worker.link import WorkerLink

TOKEN_FIX = "start it with --IdentityProvider.token=SECRET (or JUPYTER_TOKEN=SECRET)"

WORKERS = (
    "threads",
    "idle_exit",
    "idle_unload",
    "transport",
    "cache_ram",
    "traces",
    "trace_bytes",
    "probabilities",
    "model_aliases",
    "lenient",
    "formats",
    "locked",
)
"""Settings that only the worker uses, which reads the files by itself. Known here, so that none seems misspelt."""

WORKERS_FIX = "set it in jupyter_nbllama_config.py, which the worker reads"


def _workers(what: str) -> AnyTrait:
    help = f"{what} Read by the worker from its configuration file or variable, not from this server's flags."
    return AnyTrait(None, allow_none=True, help=help).tag(config=True)


class NbllamaApp(ExtensionApp):
    """Opens this user's nbllama worker behind the Jupyter server's own authentication."""

    name = "nbllama"
    version = __version__
    # No page of its own: JupyterHub looks for one here.
    extension_url = "/"

    model = Unicode(
        None,
        allow_none=True,
        help="""The model that answers where a request names none that is known: "demo" (embedded), "smollm2", or the
        path of a .gguf file. Default: the worker's own setting, which is NBLLAMA_MODEL or else "demo".""",
    ).tag(config=True)

    ctx = Int(
        None,
        allow_none=True,
        min=1,
        help="""The context of the model, in tokens, if this server is the first to load it. Default: 8192 or what
        the model was trained for, the smaller.""",
    ).tag(config=True)

    api_prefix = Unicode(
        "",
        help="""Where the Anthropic API is, below the server's base URL: with "llm", clients use {base_url}llm as
        their base URL. {base_url}nbllama always works as well.""",
    ).tag(config=True)

    threads = _workers("How many threads compute.")
    idle_exit = _workers("Seconds until the worker ends after the last program left; -1: never.")
    idle_unload = _workers("Seconds without a request until models leave the memory; -1: never.")
    transport = _workers('"socket", or "tcp" for loopback TCP with a secret.')
    model_aliases = _workers("Names of models, or patterns with *, and the model that answers for each.")
    lenient = _workers("Whether requests are taken that only the real API refuses.")
    cache_ram = _workers("MiB for prefixes that a model keeps in memory outside its context; 0: off.")
    traces = _workers("How many requests' traces are kept; 0: none.")
    trace_bytes = _workers("How many bytes the kept traces may take.")
    probabilities = _workers("Of how many alternatives of each token a trace tells the probability; 0: none.")
    formats = _workers("How models write calls and thinking, by model id (docs/formats.md).")
    locked = _workers("In a file of the system's: names of settings that nothing else may change.")

    link: WorkerLink
    watch: WorkerWatch

    def initialize_settings(self) -> None:
        self.link = WorkerLink(self._ensure, kind="jupyter", default_model=self._chosen("model", "NBLLAMA_MODEL"))
        self.watch = WorkerWatch(self.touch)

    def initialize_handlers(self) -> None:
        self.handlers.extend(routes(self.api_prefix.strip("/")))

    async def _start_jupyter_server_extension(self, serverapp: Any) -> None:
        self.watch.start()
        Registration.begin(WorkerMetrics(lambda: self.watch.status))
        for name in filter(self._typed, WORKERS):
            self.log.error("nbllama: --NbllamaApp.%s is not used here: %s", name, WORKERS_FIX)
        if self.needs_token():
            self.log.warning(
                "nbllama: this server has no token, so only its own pages can ask for answers; %s", TOKEN_FIX
            )

    async def stop_extension(self) -> None:
        """Detaches from the worker, which ends by itself when nobody is left."""
        Registration.end()
        await self.watch.close()
        await self.link.close()

    def current_activity(self) -> bool:
        """Whether an answer is on its way: the server must not be shut down as idle then.

        Also one that a kernel has asked the worker for by itself."""
        return self.link.running > 0 or self.watch.busy

    def touch(self) -> None:
        """Counts as activity for whoever culls idle servers."""
        if self.serverapp is not None:
            self.serverapp.web_app.settings["nbllama_last_activity"] = datetime.now(UTC)

    def needs_token(self) -> bool:
        """Whether this is a plain Jupyter server without a token: then no SDK, curl or Claude Code gets in."""
        provider = getattr(self.serverapp, "identity_provider", None)
        # Other providers, a Hub's above all, know tokens of their own.
        is_plain = type(provider) in (IdentityProvider, PasswordIdentityProvider)
        return is_plain and not getattr(provider, "token", "")

    def _ensure(self) -> connection.Endpoint:
        return connection.ensure(
            model=self._chosen("model", "NBLLAMA_MODEL"),
            ctx=self._chosen("ctx", "NBLLAMA_CTX"),
            on_wait=lambda text: self.log.info("nbllama: %s", text),
        )

    def _chosen(self, trait: str, variable: str) -> Any:
        """The trait's value, unless it is from a file and the environment, which is stronger, has another."""
        if variable in os.environ and not self._typed(trait):
            return None
        return getattr(self, trait)

    def _typed(self, trait: str) -> bool:
        apps = [app for app in (self, self.serverapp) if app is not None]
        return any(trait in app.cli_config.get("NbllamaApp", {}) for app in apps)
