"""Every kind of answer in JupyterLab in Chromium: nothing of a hostile model runs, and everything can be read.

    python -m tests.browser.answers_in_chromium [--lab-python PYTHON] [--screenshots FOLDER]

As `welcome_in_chromium.py`, whose JupyterLab it uses. The notebook (`answers.py`) is run, looked at in the light and
the dark theme, opened untrusted, and exported by nbconvert. Exit status 0 only if no script of an answer ran, no math
was set, and every text has the contrast that WCAG asks for (4.5).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, TimeoutError

from tests.browser import answers
from tests.browser import welcome_in_chromium as welcome
from tests.browser.welcome_in_chromium import Failed, command

NOTEBOOK = "answers.ipynb"
OUTPUTS = ".jp-OutputArea-output"
CONTRAST = 4.5

# The least contrast between a text of an output and what is behind it, with opacity, and that text.
LEAST_CONTRAST = """(selector) => {
    const parse = (color) => {
        const [r, g, b, a] = color.match(/[\\d.]+/g).map(Number);
        return [r, g, b, a === undefined ? 1 : a];
    };
    const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3])).concat([1]);
    const light = ([r, g, b]) => [r, g, b]
        .map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    let least = [99, ""];
    for (const root of document.querySelectorAll(selector)) {
        const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
        while (walker.nextNode()) {
            const text = walker.currentNode.textContent.trim();
            if (!text || !walker.currentNode.parentElement.checkVisibility()) continue;
            const line = [];
            for (let e = walker.currentNode.parentElement; e; e = e.parentElement) line.unshift(e);
            let back = [255, 255, 255, 1], opacity = 1;
            for (const e of line) {
                const style = getComputedStyle(e);
                back = over(parse(style.backgroundColor), back);
                opacity *= Number(style.opacity);
            }
            const color = parse(getComputedStyle(line[line.length - 1]).color);
            const front = over([color[0], color[1], color[2], color[3] * opacity], back);
            const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
            const ratio = (a + 0.05) / (b + 0.05);
            if (ratio < least[0]) least = [ratio, text.slice(0, 60)];
        }
    }
    return least;
}"""

WIDEST = (
    """(selector) => Math.max(...[...document.querySelectorAll(selector)].map((e) => e.scrollWidth - e.clientWidth))"""
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--lab-python", default=sys.executable, help="the interpreter that has jupyterlab and nbllama")
    parser.add_argument("--screenshots", type=Path, help="a folder for pictures of the page")
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="nb-", dir="/tmp") as name:
            folder = Path(name)
            model = folder / "notebooks" / "model.json"
            with welcome.lab(name, arguments.lab_python, {"NBLLAMA_MODEL": f"scripted:{model}"}) as url:
                answers.write(folder / "notebooks", NOTEBOOK)
                look(url, folder / "notebooks", arguments)
    except (Failed, TimeoutError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    print("nothing of an answer runs, and everything in it can be read")
    return 0


def look(url: str, folder: Path, arguments: argparse.Namespace) -> None:
    with welcome.browser_page() as page:
        run(page, url)
        check(page, "trusted, light")
        take(page, arguments.screenshots, "answers-light.png")
        command(page, "apputils:change-theme", {"theme": "JupyterLab Dark"})
        page.wait_for_selector('body[data-jp-theme-light="false"]', state="attached")
        check(page, "trusted, dark")
        take(page, arguments.screenshots, "answers-dark.png")
        welcome.save(page, folder / NOTEBOOK, "stormy")
        welcome.open_untrusted(page, url, folder, NOTEBOOK)
        check(page, "untrusted, dark")
        take(page, arguments.screenshots, "answers-untrusted-dark.png")
        command(page, "apputils:change-theme", {"theme": "JupyterLab Light"})
        page.wait_for_selector('body[data-jp-theme-light="true"]', state="attached")
        check(page, "untrusted, light")
        take(page, arguments.screenshots, "answers-untrusted.png")
        for template in ("lab", "classic"):
            page.goto(f"file://{export(arguments.lab_python, folder, template)}")
            page.wait_for_selector("details")
            check(page, f"nbconvert, {template}", "body")
            take(page, arguments.screenshots, f"answers-nbconvert-{template}.png")


def run(page: Page, url: str) -> None:
    """Runs every cell; those that should end in an error do, in a few lines, and no other does."""
    welcome.run_cells(page, url % NOTEBOOK, fail_on_other_errors)
    fail_on_other_errors(page)
    for n in answers.FAIL:
        errors = [one for one in welcome.code_cells(page)[n]["outputs"] if one["output_type"] == "error"]
        if len(errors) != 1 or (n not in answers.PYTHONS and len(errors[0]["traceback"]) > 3):
            raise Failed(f"cell {n} shows {errors}")


def fail_on_other_errors(page: Page) -> None:
    for n, cell in enumerate(welcome.code_cells(page)):
        for output in cell["outputs"]:
            if output["output_type"] == "error" and n not in answers.FAIL:
                raise Failed(f"cell {n} failed: {output['ename']}: {output['evalue']}")


def check(page: Page, name: str, selector: str = OUTPUTS) -> None:
    # Images have failed and math has been set by then.
    page.wait_for_timeout(1500)
    if page.evaluate("() => window.ran !== undefined"):
        raise Failed(f"{name}: a script of an answer ran")
    for kind in ("mjx-container", ".MathJax", "svg[onload]", "img[onerror]", 'a[href^="javascript"]'):
        if page.locator(f"{selector} {kind}").count():
            raise Failed(f"{name}: there is a {kind} in the outputs")
    seen = "\n".join(page.locator(selector).all_inner_texts())
    for text in ("<script>window.ran = 1</script>", "$$E = mc^2$$", "␛[31mred", "interrupted", "def is_prime"):
        if text not in seen:
            raise Failed(f"{name} does not show {text!r}")
    if page.locator("details[open]").count():
        raise Failed(f"{name} shows the thinking open")
    ratio, text = page.evaluate(LEAST_CONTRAST, f"{selector} [style*='overflow-wrap']")
    print(f"{name}: least contrast {ratio:.1f} ({text!r})")
    if not text:
        raise Failed(f"{name}: no answer was found")
    if ratio < CONTRAST:
        raise Failed(f"{name}: {text!r} has a contrast of {ratio:.1f}")
    if page.evaluate(WIDEST, f"{selector} [style*='overflow-wrap']") > 2:
        raise Failed(f"{name}: an answer is wider than the page")


def export(python: str, folder: Path, template: str, notebook: str = NOTEBOOK) -> Path:
    """The saved notebook as HTML, as a reader without Jupyter gets it."""
    target = folder / f"{template}.html"
    step: list[Any] = [python, "-m", "nbconvert", "--to", "html", "--template", template, folder / notebook]
    subprocess.run([*step, "--output", target.name], check=True, capture_output=True, cwd=folder)
    return target


def take(page: Page, pictures: Path | None, name: str) -> None:
    """The whole page, in a window that is high enough for it, with one thought open."""
    if pictures is None:
        return
    page.set_viewport_size({"width": welcome.WIDTH, "height": 5000})
    page.evaluate("() => { document.querySelector('details').open = true; }")
    welcome.take(page, pictures, name)
    page.evaluate("() => { document.querySelector('details').open = false; }")
    page.set_viewport_size({"width": welcome.WIDTH, "height": welcome.HEIGHT})


if __name__ == "__main__":
    sys.exit(main())
