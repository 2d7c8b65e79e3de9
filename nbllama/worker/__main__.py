"""`python -P -m nbllama.worker`: the process that holds the model. Its output is its log."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import os
import sys
from pathlib import Path

from jupyter_core.paths import jupyter_data_dir

from nbllama._version import __version__
from nbllama.errors import NbllamaError
from nbllama.worker import log_output
from nbllama.worker.runtime_dir import log_file, runtime_dir
from nbllama.worker.settings import Settings, load_settings

log = logging.getLogger(__name__)


def main() -> int:
    """Runs the worker; the exit code: 0, or 1 after one sentence on standard error."""
    faulthandler.enable()
    try:
        log_output.set_up(log_file())
        log.info("pid %d starts: nbllama %s, %s", os.getpid(), __version__, sys.executable)
        return _run()
    except NbllamaError as error:
        with contextlib.suppress(OSError):
            print(f"nbllama: {error}", file=sys.stderr)
        return 1


def _run() -> int:
    settings = load_settings(os.environ, sys.argv[1:])
    _be_first_to_go()
    # The engine thread holds the GIL between two decodes; the event loop should not wait 5 ms for it each time.
    sys.setswitchinterval(5e-4)
    # Late: a setting with a bad value is told before half a second of imports.
    from nbllama.answer.service import Service
    from nbllama.answer.service_settings import ServiceSettings
    from nbllama.worker.serving import serve

    trial = runtime_dir() / "library-trial.json"
    service = Service(
        ServiceSettings(
            model=settings.model,
            ctx=settings.ctx,
            threads=settings.threads,
            trace_count=settings.traces,
            trace_bytes=settings.trace_bytes,
            probabilities=settings.probabilities,
            cache_bytes=None if settings.cache_ram is None else settings.cache_ram << 20,
            trial_memory=trial,
            signature_key=Path(jupyter_data_dir(), "nbllama", "signature.key"),
            # An alias is another way to a model: where the administrator allows one only, there is none.
            aliases=(None if _only_one_model(settings) else settings.model_aliases) or {},
            lenient=settings.lenient,
            formats=settings.formats,
        )
    )
    asyncio.run(serve(service, settings))
    return 0


def _only_one_model(settings: Settings) -> bool:
    return "model" in settings.locked and "model_aliases" not in settings.locked


def _be_first_to_go() -> None:
    """When memory runs out, the model goes and the notebooks stay. Linux only; elsewhere nothing happens."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


if __name__ == "__main__":
    sys.exit(main())
