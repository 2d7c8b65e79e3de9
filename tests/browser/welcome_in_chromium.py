"""The welcome notebook in JupyterLab in Chromium: runs every cell, looks at the page, saves, opens it untrusted.

    python tests/browser/welcome_in_chromium.py [--lab-python PYTHON] [--screenshots FOLDER]

This interpreter needs `playwright` (`pip install playwright`; its own browsers are not needed) and the system a
`chromium`. JupyterLab and nbllama may live in another environment: `--lab-python` names its interpreter (default: this
one). Everything is in a temporary folder: notebook, settings, worker. Exit status 0 only if every cell ran without an
error, the answers are on the page, and they are still there in the saved notebook when it is opened untrusted.
With `--screenshots`, `welcome.png` (light), `welcome-dark.png` and `welcome-untrusted.png` are left in that folder.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

try:
    from playwright.sync_api import Page, TimeoutError, sync_playwright
except ImportError:
    sys.exit("this needs playwright: pip install playwright")

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = "00_welcome.ipynb"
UNTRUSTED = "untrusted.ipynb"
WIDTH, HEIGHT = 1180, 1000
SECONDS = 180
"""For all cells together; the worker starts in them."""

# What must be on the page: an answer of %%llama, its footer, one through the SDK, one after a tool call.
EXPECTED = ("I am a tiny demo model", "4.8 M parameters", "def is_prime", "The weather in Paris is sunny")

KERNEL_IS_READY = """() => {
    const context = window.jupyterapp.shell.currentWidget?.sessionContext;
    const kernel = context?.session?.kernel;
    return context?.isReady && kernel?.connectionStatus === "connected" && kernel.status === "idle";
}"""


class Failed(Exception):
    """What is wrong, for the last line."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--lab-python", default=sys.executable, help="the interpreter that has jupyterlab and nbllama")
    parser.add_argument("--screenshots", type=Path, help="a folder for pictures of the page")
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="nb-", dir="/tmp") as folder, lab(folder, arguments.lab_python) as url:
            check(url, Path(folder), arguments.screenshots)
    except (Failed, TimeoutError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    print("the welcome notebook runs, and stays readable when saved and untrusted")
    return 0


@contextlib.contextmanager
def lab(folder: str, python: str, more: dict[str, str] | None = None) -> Iterator[str]:
    """A JupyterLab over a copy of the notebook; its URL with the token, of which %s stands for the path.

    `more` is added to its environment."""
    notebooks = Path(folder, "notebooks")
    notebooks.mkdir()
    shutil.copy(ROOT / "notebooks" / NOTEBOOK, notebooks)
    env = environment(folder) | (more or {})
    write_settings(Path(env["JUPYTERLAB_SETTINGS_DIR"], "@jupyterlab"))
    command = [python, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", "--port=0", "--allow-root"]
    command += [f"--ServerApp.root_dir={notebooks}", "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=None"]
    with (
        Path(folder, "lab.log").open("wb") as log,
        subprocess.Popen(command, env=env, cwd=notebooks, stdout=log, stderr=log, start_new_session=True) as server,
    ):
        try:
            info = wait_for_server(server, Path(env["JUPYTER_RUNTIME_DIR"], f"jpserver-{server.pid}.json"))
            yield f"{info['url']}lab/tree/%s?token={info['token']}&reset"
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()
            subprocess.run([python, "-m", "nbllama", "stop"], env=env, capture_output=True, check=False, timeout=60)


def write_settings(folder: Path) -> None:
    """No news popup, and every cell rendered: JupyterLab leaves out those that are out of sight."""
    settings = {
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        "notebook-extension/tracker": {"windowingMode": "none"},
    }
    for name, values in settings.items():
        file = folder / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(values))


def environment(folder: str) -> dict[str, str]:
    places = ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    own = {name: str(Path(folder, name.lower())) for name in (*places, "IPYTHONDIR", "JUPYTER_DATA_DIR")}
    return {**os.environ, **own, "NBLLAMA_RUNTIME_DIR": str(Path(folder, "run"))}


def wait_for_server(server: subprocess.Popen[bytes], file: Path) -> dict[str, Any]:
    for _ in range(600):
        with contextlib.suppress(OSError, ValueError):
            info: dict[str, Any] = json.loads(file.read_text())
            return info
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise Failed(f"JupyterLab did not start:\n{(file.parents[1] / 'lab.log').read_text(errors='replace')[-3000:]}")


@contextlib.contextmanager
def browser_page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or "/usr/bin/chromium",
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"],
        )
        try:
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            page.set_default_timeout(90_000)
            yield page
        finally:
            browser.close()


def check(url: str, folder: Path, pictures: Path | None) -> None:
    with browser_page() as page:
        run_cells(page, url % NOTEBOOK, fail_on_error)
        fail_on_error(page)
        check_page(page, "the page")
        take(page, pictures, "welcome.png")
        command(page, "apputils:change-theme", {"theme": "JupyterLab Dark"})
        page.wait_for_selector('body[data-jp-theme-light="false"]', state="attached")
        take(page, pictures, "welcome-dark.png")
        command(page, "apputils:change-theme", {"theme": "JupyterLab Light"})
        save(page, folder / "notebooks" / NOTEBOOK, EXPECTED[-1])
        open_untrusted(page, url, folder / "notebooks", NOTEBOOK)
        check_page(page, "the untrusted notebook")
        take(page, pictures, "welcome-untrusted.png")


def run_cells(page: Page, url: str, watch: Callable[[Page], None] = lambda page: None) -> None:
    """Opens a notebook and runs all its cells; `watch` is called meanwhile, and may raise."""
    open_notebook(page, url)
    # A run that is asked for before the kernel is connected is lost, or asks for a kernel.
    page.wait_for_function(KERNEL_IS_READY)
    n_cells = len(code_cells(page))
    command(page, "notebook:run-all-cells")
    deadline = time.monotonic() + SECONDS
    while not (all(cell["execution_count"] for cell in code_cells(page)) and page.evaluate(KERNEL_IS_READY)):
        if time.monotonic() > deadline:
            raise Failed(f"not every cell has run after {SECONDS} s")
        watch(page)
        page.wait_for_timeout(500)
    print(f"{n_cells} cells ran")


def fail_on_error(page: Page) -> None:
    for cell in code_cells(page):
        for output in cell["outputs"]:
            if output["output_type"] == "error":
                raise Failed(f"a cell failed: {output['ename']}: {output['evalue']}")


def save(page: Page, file: Path, expected: str) -> None:
    """Saves the notebook; returns when `expected` is in the file."""
    command(page, "docmanager:save")
    for _ in range(100):
        with contextlib.suppress(ValueError):
            if expected in file.read_text() and '"execution_count": null' not in file.read_text():
                return
        page.wait_for_timeout(100)
    raise Failed("the notebook was not saved")


def open_notebook(page: Page, url: str) -> None:
    page.goto(url)
    page.wait_for_selector("#jupyterlab-splash", state="detached")
    page.wait_for_selector(".jp-Notebook .jp-Cell")


def open_untrusted(page: Page, url: str, notebooks: Path, notebook: str) -> None:
    """The saved notebook under another name and with a cell changed: no signature of the server covers it."""
    saved = json.loads((notebooks / notebook).read_text())
    saved["cells"][0]["source"] = "# Opened untrusted."
    (notebooks / UNTRUSTED).write_text(json.dumps(saved))
    open_notebook(page, url % UNTRUSTED)
    if any(cell["metadata"].get("trusted") for cell in code_cells(page)):
        raise Failed("the notebook is trusted, so this shows nothing")


def check_page(page: Page, name: str) -> None:
    """Every expected text is seen, and the thinking is there, collapsed."""
    page.wait_for_function("() => document.querySelectorAll('.jp-OutputArea-output details').length > 0")
    page.wait_for_timeout(1000)
    seen = "\n".join(page.locator(".jp-OutputArea-output").all_inner_texts())
    missing = [text for text in EXPECTED if text not in seen]
    if missing:
        raise Failed(f"{name} does not show {missing[0]!r}")
    if page.locator(".jp-OutputArea-output details[open]").count():
        raise Failed(f"{name} shows the thinking open")


def code_cells(page: Page) -> list[dict[str, Any]]:
    notebook = page.evaluate("() => window.jupyterapp.shell.currentWidget.content.model.toJSON()")
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]


def command(page: Page, name: str, arguments: dict[str, Any] | None = None) -> None:
    """Begins a command of JupyterLab. Not waited for: one that opens a dialog ends with that."""
    code = "([name, arguments]) => { void window.jupyterapp.commands.execute(name, arguments); }"
    page.evaluate(code, [name, arguments or {}])


def take(page: Page, pictures: Path | None, name: str) -> None:
    """A picture that begins at the first answer."""
    if pictures is None:
        return
    pictures.mkdir(parents=True, exist_ok=True)
    page.evaluate("() => document.querySelector('.jp-Notebook .jp-Cell')?.scrollIntoView({block: 'start'})")
    page.wait_for_timeout(1000)
    page.screenshot(path=pictures / name)


if __name__ == "__main__":
    sys.exit(main())
