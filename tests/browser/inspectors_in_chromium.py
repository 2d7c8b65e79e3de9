"""Each inspector in JupyterLab in Chromium, light, dark and untrusted: nothing of a hostile record runs.

    python -m tests.browser.inspectors_in_chromium [--lab-python PYTHON] [--screenshots FOLDER]

As `answers_in_chromium.py`, with a model by a script that writes markup into its answer. Exit status 0 only if no
script ran, no view is wider than the page, and every text has the contrast that WCAG asks for (4.5).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, TimeoutError

from tests.browser import welcome_in_chromium as welcome
from tests.browser.answers_in_chromium import CONTRAST, LEAST_CONTRAST, OUTPUTS, WIDEST
from tests.browser.welcome_in_chromium import Failed, command

NOTEBOOK = "inspectors.ipynb"
EVIL = "<script>window.ran = 1</script><img src=x onerror='window.ran = 1'> $$E = mc^2$$"
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
ASK = """
import nbllama
tool = {"name": "get_weather", "description": EVIL, "input_schema": {"type": "object", "properties": {"city": {}}}}
def ask(*texts, **more):
    messages = [{"role": "user" if n % 2 == 0 else "assistant", "content": text} for n, text in enumerate(texts)]
    more = {"system": "Be brief. It is 2026-11-25 10:00.", "tools": [tool], "max_tokens": 300} | more
    more["extra_body"] = {"nbllama": {"probabilities": 4}}
    nbllama.client().messages.create(model="model", messages=messages, **more)
    return nbllama.last
first = ask(f"hello {EVIL}")
second = ask(f"hello {EVIL}", "Hello!", "the weather?", system="Be brief. It is 2026-11-25 10:01.")
"""
CELLS = [
    f"EVIL = {EVIL!r}\n{ASK}",
    "second",
    "second.tokens()",
    "second.cache(first)",
    "second.calls()",
    "second.events()",
    "second.probabilities()",
    "second.timing()",
    "nbllama.traces().timing()",
    "nbllama.traces()",
    "second.tokens().df.tail()",
    'nbllama.tokens(f"Zürich 🙂 {EVIL}", models=["model", "model"])',
    f"nbllama.parse({CALL.replace('Paris', 'Pa') + '<tool_call>{'!r}, tools=[tool])",
    'nbllama.events([{"type": EVIL}, {"type": "message_stop"}])',
    'nbllama.trace(second.save("second.json.gz")).calls()',
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--lab-python", default=sys.executable, help="the interpreter that has jupyterlab and nbllama")
    parser.add_argument("--screenshots", type=Path, help="a folder for pictures of the page")
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="nb-", dir="/tmp") as name:
            folder = Path(name, "notebooks")
            with welcome.lab(name, arguments.lab_python, {"NBLLAMA_MODEL": f"scripted:{folder}/model.json"}) as url:
                write(folder)
                look(url, folder, arguments.screenshots)
    except (Failed, TimeoutError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    print("each inspector is shown, runs nothing, and can be read")
    return 0


def write(folder: Path) -> None:
    rules = [{"when": "weather", "answer": f"{EVIL}\n{CALL}"}]
    (folder / "model.json").write_text(json.dumps({"rules": rules, "default": "Hello!"}))
    cells: list[dict[str, Any]] = [
        {"cell_type": "code", "id": f"c{n}", "source": source, "metadata": {}, "outputs": [], "execution_count": None}
        for n, source in enumerate(CELLS)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    (folder / NOTEBOOK).write_text(json.dumps(notebook))


def look(url: str, folder: Path, pictures: Path | None) -> None:
    with welcome.browser_page() as page:
        welcome.run_cells(page, url % NOTEBOOK, welcome.fail_on_error)
        check(page, "trusted, light", pictures)
        command(page, "apputils:change-theme", {"theme": "JupyterLab Dark"})
        page.wait_for_selector('body[data-jp-theme-light="false"]', state="attached")
        check(page, "trusted, dark", pictures)
        welcome.save(page, folder / NOTEBOOK, "Probabilities")
        welcome.open_untrusted(page, url, folder, NOTEBOOK)
        check(page, "untrusted, dark", pictures)


def check(page: Page, name: str, pictures: Path | None) -> None:
    # Images have failed and math has been set by then.
    page.wait_for_timeout(1500)
    if page.evaluate("() => window.ran !== undefined"):
        raise Failed(f"{name}: a script ran")
    for kind in ("mjx-container", ".MathJax", "img[onerror]", "script"):
        if page.locator(f"{OUTPUTS} {kind}").count():
            raise Failed(f"{name}: there is a {kind} in the outputs")
    ratio, text = page.evaluate(LEAST_CONTRAST, f"{OUTPUTS} [style*='overflow-wrap']")
    print(f"{name}: least contrast {ratio:.1f} ({text!r})")
    if not text or ratio < CONTRAST:
        raise Failed(f"{name}: {text!r} has a contrast of {ratio:.1f}")
    if page.evaluate(WIDEST, f"{OUTPUTS} [style*='overflow-wrap']") > 2:
        raise Failed(f"{name}: a view is wider than the page")
    if pictures is not None:
        page.set_viewport_size({"width": welcome.WIDTH, "height": 12_000})
        welcome.take(page, pictures, f"inspectors-{name.replace(', ', '-')}.png")
        page.set_viewport_size({"width": welcome.WIDTH, "height": welcome.HEIGHT})


if __name__ == "__main__":
    sys.exit(main())
