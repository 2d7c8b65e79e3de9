"""The worker's process with the fake service: called like `python -P -m nbllama.worker …`, see conftest.

`--model crash` ends at once with a message, `--model hang` never answers.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

ROOT = Path(__file__).parents[2]
sys.path[:] = [str(ROOT), *(entry for entry in sys.path if Path(entry) != Path(__file__).parent)]

from nbllama.worker import starting  # noqa: E402  # found through the path set above
from nbllama.worker.serving import serve  # noqa: E402
from nbllama.worker.settings import load_settings  # noqa: E402
from tests.worker.fake_service import FakeService  # noqa: E402

if TYPE_CHECKING:
    from nbllama.answer.service import Service


async def _serve(argv: list[str]) -> None:
    await serve(cast("Service", FakeService()), load_settings(os.environ, argv, config_path=[]))


def main() -> None:
    # Or it would record the real interpreter, and the next start would be a real one.
    starting._has_llama_cpp = lambda: False
    argv = sys.argv[sys.argv.index("nbllama.worker") + 1 :]
    logging.basicConfig(level=logging.INFO)
    print(f"started with {sorted(os.environ)} in {os.getcwd()}", flush=True)
    if "crash" in argv:
        sys.exit("the model is broken")
    if "hang" in argv:
        time.sleep(60)
    asyncio.run(_serve(argv))


if __name__ == "__main__":
    main()
