"""What every live view is: a column of widgets that shows its errors, frees all it made, and leaves a static view."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import ipywidgets  # type: ignore[import-untyped]
from IPython.display import display

from nbllama.errors import NbllamaError
from nbllama.views import markup
from nbllama.views.view import View
from nbllama.views.visible import visible

VIEW = "application/vnd.jupyter.widget-view+json"
NOTE = "The live view of this is a widget: it works while the kernel that made it runs."


class Panel(ipywidgets.VBox):  # type: ignore[misc]
    """The live form of `view`. `close()` frees every widget of it, those that are out of sight too."""

    def __init__(self, view: View) -> None:
        super().__init__(layout=ipywidgets.Layout(width="100%", max_width="960px"))
        self.view = view
        self.alarm = html()
        self._owned: list[Any] = [self.alarm]
        self._depth = 0
        self.add_class(self._mark)

    def fill(self, *children: Any, told: Sequence[str] | None = None) -> None:
        """Heading, the view's sentences or `told`, these, and below them whatever goes wrong."""
        lines = self.view.summary() if told is None else told
        head = html(markup.heading(self.view.title) + markup.sentences(lines[:MOST_SENTENCES]))
        self.children = (head, *children, self.alarm)

    def own(self, *widgets: Any) -> None:
        """Widgets that are to be freed with this one, though it does not always show them."""
        self._owned.extend(widgets)

    def guarded(self, callback: Callable[..., object]) -> Callable[..., None]:
        """The callback, which shows what it raises here: a kernel says it in a log that nobody has open."""

        @functools.wraps(callback)
        def run(*arguments: Any) -> None:
            if not self._depth:
                self.alarm.value = ""
            self._depth += 1
            try:
                callback(*arguments)
            except BaseException as error:
                self.fail(error)
                if not isinstance(error, Exception):
                    raise
            finally:
                self._depth -= 1

        return run

    def fail(self, error: BaseException) -> None:
        """Shows an error: its sentence, and of one that is none of ours where it comes from."""
        said = str(error) if isinstance(error, NbllamaError) else f"{type(error).__name__}: {error}"
        parts = [markup.notice(said)]
        if not isinstance(error, NbllamaError):
            told = "".join(traceback.format_exception(error))
            parts.append(markup.folded("Where it comes from", markup.block(told[-4000:])))
        put(self.alarm, "".join(parts))

    def on(self, widget: Any, callback: Callable[[Any], object], name: str = "value") -> None:
        """Calls `callback` with the new value whenever it changes."""
        widget.observe(self.guarded(lambda change: callback(change["new"])), name)

    def button(self, text: str, tip: str, callback: Callable[[], object], *, width: str = "auto") -> Any:
        button = ipywidgets.Button(description=text, tooltip=tip, layout=ipywidgets.Layout(width=width))
        button.on_click(self.guarded(lambda _: callback()))
        return button

    def close(self) -> None:
        for widget in list(_reachable([self, *self._owned])):
            if widget is not self:
                widget.close()
        super().close()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any] | None:
        bundle = super()._repr_mimebundle_(**kwargs)
        return None if bundle is None else bundle | {"text/html": _whole(self.view.html()), "text/plain": NOTE}

    def _ipython_display_(self, **kwargs: Any) -> None:
        """Two outputs. JupyterLab, reopened without the kernel, shows "Loading widget…" for the first, whatever else
        is in its bundle; the second is the static view, which hides itself where the live one is on the page."""
        if self.comm is not None:
            display({VIEW: super()._repr_mimebundle_()[VIEW], "text/plain": NOTE}, raw=True)  # type: ignore[no-untyped-call]
        display({"text/html": self._static(), "text/plain": _whole(self.view.text())}, raw=True)  # type: ignore[no-untyped-call]

    @property
    def _mark(self) -> str:
        return f"nbllama-live-{id(self):x}"

    def _static(self) -> str:
        # An untrusted notebook loses the rule, and has no live view to hide it for.
        rule = f".jp-OutputArea:has(.{self._mark}) .{self._mark}-static{{display:none}}"
        return f'<style>{rule}</style><div class="{self._mark}-static">{_whole(self.view.html())}</div>'


MOST_SENTENCES = 12
"""Of a view's sentences above its live form: the static one has them all."""


def html(value: str = "", **layout: str) -> Any:
    """A widget of HTML that is escaped already."""
    widget = ipywidgets.HTML(layout=ipywidgets.Layout(**{"margin": "0", "width": "auto"} | layout))
    put(widget, value)
    return widget


def put(widget: Any, value: str) -> None:
    """Shows HTML that is escaped already."""
    # What holds one line high elsewhere is no good for text.
    widget.value = (
        _whole(f'<div style="line-height:1.45;margin-right:4px">{markup.static(value)}</div>') if value else ""
    )


def facts(lines: Iterable[tuple[str, str]]) -> str:
    """Names, and beside each its HTML, one below the other."""
    name, value = "padding:2px 12px 2px 0;vertical-align:top;text-align:left", "padding:2px 0;white-space:pre-wrap"
    rows = [f'<tr><th style="{name}">{what}</th><td style="{value}">{html}</td></tr>' for what, html in lines]
    return f'<table style="border-collapse:collapse;margin:4px 0"><tbody>{"".join(rows)}</tbody></table>'


def compact(width: str, **layout: str) -> dict[str, Any]:
    """Of a widget whose name takes no more room than its letters."""
    return {"style": {"description_width": "initial"}, "layout": ipywidgets.Layout(width=width, **layout)}


def words(text: str) -> str:
    """Somebody's text for a button, an option or a tooltip, which show it as it is."""
    return _whole(visible(text))


def beside(*widgets: Any, **layout: str) -> Any:
    """Side by side, and below each other where the page is narrow."""
    return ipywidgets.HBox(
        widgets, layout=ipywidgets.Layout(**{"flex_flow": "row wrap", "align_items": "center"} | layout)
    )


def _whole(text: str) -> str:
    # Half a character pair, which a model's JSON escape can bring, has no UTF-8 form: a message may not hold it.
    return text.encode(errors="replace").decode()


def _reachable(widgets: Iterable[Any]) -> Iterator[Any]:
    """These widgets and all that they hold: children, layouts, styles."""
    seen: set[str] = set()
    waiting = list(widgets)
    while waiting:
        widget = waiting.pop()
        if widget.comm is None or widget.model_id in seen:
            continue
        seen.add(widget.model_id)
        for name in widget.keys:
            value = getattr(widget, name)
            several = value if isinstance(value, list | tuple) else [value]
            waiting += [one for one in several if isinstance(one, ipywidgets.Widget)]
        yield widget
