"""Every live view in JupyterLab in Chromium, used by mouse and keyboard, light and dark, saved and reopened.

    python -m tests.browser.widgets_in_chromium [--lab-python PYTHON] [--screenshots FOLDER]

As `welcome_in_chromium.py`, whose JupyterLab it uses; the notebook is in `widgets.py`. Exit status 0 only if each view
answers to its clicks and keys, no script of a record ran, every text has the contrast that WCAG asks for, a megabyte
of prompt leaves the page quick, and the static views are on the page when the notebook is opened without its kernel,
trusted or not, and when nbconvert exports it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Locator, Page, TimeoutError, expect

from tests.browser import answers_in_chromium as answers
from tests.browser import welcome_in_chromium as welcome
from tests.browser import widgets
from tests.browser.welcome_in_chromium import Failed, command

NOTEBOOK = "widgets.ipynb"
NAMES = list(widgets.CELLS)
TITLES = ("Tokens", "Cache: why", "Calls", "Events", "Probabilities", "Timing")
LIVE = ".widget-vbox[class*='nbllama-live-']"
MOST_ELEMENTS = 2500
"""In the view of a prompt of a megabyte."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--lab-python", default=sys.executable, help="the interpreter that has jupyterlab and nbllama")
    parser.add_argument("--screenshots", type=Path, help="a folder for pictures of the views")
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="nb-", dir="/tmp") as name:
            folder = Path(name, "notebooks")
            # The notebook lies elsewhere; the views are those of this checkout.
            more = {"PYTHONPATH": str(welcome.ROOT)}
            with welcome.lab(name, arguments.lab_python, more) as url:
                widgets.write(folder, NOTEBOOK)
                with welcome.browser_page() as page:
                    use(page, url, arguments.screenshots)
                    reopen(page, url, folder, arguments.lab_python)
    except (Failed, TimeoutError, AssertionError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    print("every live view can be used, and its static view stays without a kernel")
    return 0


def use(page: Page, url: str, pictures: Path | None) -> None:
    page.set_viewport_size({"width": welcome.WIDTH, "height": 1400})
    welcome.run_cells(page, url % NOTEBOOK, welcome.fail_on_error)
    for name, act in ACTS.items():
        try:
            act(cell(page, name).locator(LIVE))
        except (AssertionError, TimeoutError) as error:
            raise Failed(f"{name}: {str(error)[:1500]}") from error
        print(f"{name}: used")
    look(page, pictures, "light")
    command(page, "apputils:change-theme", {"theme": "JupyterLab Dark"})
    page.wait_for_selector('body[data-jp-theme-light="false"]', state="attached")
    look(page, pictures, "dark")


def look(page: Page, pictures: Path | None, theme: str) -> None:
    """Nothing ran, nothing is set as math, every text can be read."""
    page.wait_for_timeout(1000)
    if page.evaluate("() => window.ran !== undefined"):
        raise Failed("a script of a record ran")
    for kind in ("mjx-container", ".MathJax", "svg[onload]", "img[onerror]", 'a[href^="javascript"]'):
        if page.locator(f".jp-OutputArea-output {kind}").count():
            raise Failed(f"there is a {kind} in the outputs")
    for part in (".widget-html-content", ".jupyter-button:not([disabled])", "label"):
        ratio, text = page.evaluate(answers.LEAST_CONTRAST, f".jp-OutputArea-output {part}")
        print(f"{theme}, {part}: least contrast {ratio:.1f} ({text!r})")
        if not text or ratio < answers.CONTRAST:
            raise Failed(f"{theme}: {text!r} in {part} has a contrast of {ratio:.1f}")
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        for name in ACTS:
            cell(page, name).screenshot(path=pictures / f"widget-{name}-{theme}.png")


def cell(page: Page, name: str) -> Locator:
    return page.locator(".jp-Notebook .jp-CodeCell").nth(NAMES.index(name))


def button(view: Locator, text: str) -> Locator:
    return view.get_by_role("button", name=text, exact=True)


def tokens(view: Locator) -> None:
    """By mouse, by search, and by keyboard alone."""
    view.locator("button", has_text="·brief").first.click()
    expect(view).to_contain_text("number 4 of the prompt")
    expect(view).to_contain_text("system, block 0")
    view.get_by_placeholder("text, or #id").fill("Paris")
    view.get_by_placeholder("text, or #id").press("Enter")
    expect(view).to_contain_text("tokens with 'Paris'")
    button(view, "show in place").click()
    expect(view).to_contain_text("tokens 1 to 120 of")
    chip = view.locator("button", has_text="·It").first
    chip.focus()
    chip.press("Tab")
    view.page.keyboard.press("Enter")
    expect(view).to_contain_text("number 7 of the prompt")


def cache(view: Locator) -> None:
    expect(view).to_contain_text("What to change:")
    expect(view).to_contain_text("before: system, block 0")
    parts = view.locator("select").nth(1)
    parts.focus()
    parts.press("End")
    expect(view).not_to_contain_text("What to change:")
    view.locator("select").first.select_option(index=0)
    expect(view).to_contain_text("What to change:")


def calls(view: Locator) -> None:
    expect(view).to_contain_text("before the first of")
    for n in (1, 2, 3):
        button(view, "on ▶").click()
        expect(view).to_contain_text(f"step {n} of")
    button(view, "◀ back").press("Enter")
    expect(view).to_contain_text("step 2 of")
    slider(view, "End")
    expect(view).to_contain_text("get_weather")
    slider(view, "ArrowLeft")
    expect(view).to_contain_text("Events")


def events(view: Locator) -> None:
    expect(view).to_contain_text("Nothing has come yet.")
    view.locator(".jupyter-widget-play, .widget-play").locator("button").first.click()
    expect(view).to_contain_text("The message is complete.", timeout=60_000)
    view.locator("select").first.select_option(index=0)
    expect(view).to_contain_text("▶ content_block_start")
    for _ in range(3):
        button(view, "on ▶").click()
    expect(view).to_contain_text("I look it up.")


def probabilities(view: Locator) -> None:
    chips = view.locator("button", has_text="31%")
    chips.first.click()
    expect(view).to_contain_text("it might have said")
    button(view, "continue from here").click()
    expect(view).to_contain_text("went on from 2")
    expect(view).to_contain_text("└─ token 2")
    button(view, "next surprise").click()
    expect(view).to_contain_text("Token 5")
    number = view.get_by_role("spinbutton").first
    number.fill("3")
    number.press("Enter")
    expect(view).to_contain_text("Token 3")
    button(view, "continue from here").click()
    expect(view).to_contain_text("ValueError: this model <b>is gone</b>")
    number.fill("6")
    number.press("Enter")
    expect(view).to_contain_text("✗ forbidden")
    expect(button(view, "continue from here")).to_be_disabled()
    expect(view).not_to_contain_text("ValueError")


def timing(view: Locator) -> None:
    expect(view).to_contain_text("computing the prompt")
    button(view, "per token").click()
    expect(view).to_contain_text("Token 0 came at 500 ms")
    slider(view, "ArrowRight")
    expect(view).to_contain_text("Token 1 came at")


def huge(view: Locator) -> None:
    expect(view).to_contain_text("tokens 1 to 120 of 230,000")
    button(view, "last").click()
    expect(view).to_contain_text("to 230,000 of 230,000")
    elements = view.locator("*").count()
    print(f"huge: {elements:,} elements")
    if elements > MOST_ELEMENTS:
        raise Failed(f"a prompt of a megabyte makes {elements:,} elements")


def hostile(view: Locator) -> None:
    """All six of them; nothing is markup: it is seen."""
    expect(view).to_have_count(6)
    expect(view.first).to_contain_text("<script>window.ran = 1</script>")
    for listed in view.locator("select").all():
        listed.press("End")
    for on in button(view, "on ▶").all():
        on.click()


ACTS: dict[str, Callable[[Locator], None]] = {
    "tokens": tokens,
    "cache": cache,
    "calls": calls,
    "events": events,
    "probabilities": probabilities,
    "timing": timing,
    "huge": huge,
    "hostile": hostile,
}


def slider(view: Locator, key: str) -> None:
    view.locator(".noUi-handle").first.press(key)


def reopen(page: Page, url: str, folder: Path, python: str) -> None:
    """Saved, and opened without the kernel that made the views: as its own user, as a stranger, and exported."""
    live = page.locator(".jp-OutputArea-output table").count()
    if page.locator("[class*='-static']:visible").count() or not live:
        raise Failed("a static view is seen beside its live one")
    welcome.save(page, folder / NOTEBOOK, "widget-view+json")
    command(page, "kernelmenu:shutdown")
    page.wait_for_timeout(1000)
    welcome.open_notebook(page, url % NOTEBOOK)
    check_static(page, "reopened")
    welcome.open_untrusted(page, url, folder, NOTEBOOK)
    check_static(page, "untrusted")
    page.goto(f"file://{answers.export(python, folder, 'lab', NOTEBOOK)}")
    check_static(page, "nbconvert")


def check_static(page: Page, name: str) -> None:
    page.wait_for_function("() => document.body.innerText.includes('Timing')")
    page.wait_for_timeout(1500)
    seen = page.locator("body").inner_text()
    for title in TITLES:
        if title not in seen:
            raise Failed(f"{name}: the static view of {title} is not on the page")
    if page.evaluate("() => window.ran !== undefined"):
        raise Failed(f"{name}: a script of a record ran")
    print(f"{name}: the static views are there")


if __name__ == "__main__":
    sys.exit(main())
