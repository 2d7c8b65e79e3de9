"""The live views, driven by their traits as a browser drives them."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Any

import ipywidgets  # type: ignore[import-untyped]
import pytest
from ipywidgets.widgets.widget import _instances  # type: ignore[import-untyped]

from nbllama.notebook import widgets
from nbllama.notebook.widgets import panel as panels
from nbllama.notebook.widgets.chips import PER_PAGE
from nbllama.notebook.widgets.side_by_side import side_by_side
from nbllama.views.cache import Cache
from nbllama.views.calls import Calls
from nbllama.views.events import Events
from nbllama.views.every import NAMES, view_of
from nbllama.views.probabilities import Probabilities
from nbllama.views.timing import Timing
from nbllama.views.tokens import Tokens
from tests.views.asking import WEATHER, Record, asked, assistant, records, user
from tests.views.test_views import SCRIPT, hostile, huge

MOST_WIDGETS = 250


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """Thinking, a text and a call; then the conversation goes on, with another time in the system prompt."""
    question, more = user("The weather in Paris? ä€🙂"), {"tools": [WEATHER], "thinking": {"type": "adaptive"}}
    first = asked(question, system="It is 10:00.", stream=True, **more)
    second = asked(question, assistant("Sunny."), user("Thanks!"), system="It is 10:07.", stream=True, **more)
    return records(tmp_path_factory.mktemp("widgets"), first, second)


@pytest.fixture(scope="module")
def record(both: list[Record]) -> Record:
    """The first of them, with probabilities: token 1 masked, token 2 forced; and times of our own."""
    record = dict(both[0])
    ids = record["output_ids"]
    other = next(id for id in ids if id != ids[1])
    told: list[dict[str, Any]] = [
        {"logprob": math.log(0.9), "top": [[id, math.log(0.9)]], "entropy": 0.1} for id in ids
    ]
    told[1] = {"logprob": math.log(0.4), "top": [[ids[1], math.log(0.4)]], "entropy": math.log(2), "removed": 0.5}
    told[1] |= {"raw_logprob": math.log(0.2), "raw_top": [[other, math.log(0.5)], [ids[1], math.log(0.2)]]}
    told[1]["top"].append([ids[3], math.log(0.3)])
    told[2] |= {"forced": True, "removed": 0.0}
    n = len(record["events"]) - 1
    record["events"] = [[2 + 8 * i / n, event] for i, (_, event) in enumerate(record["events"])]
    record["token_times"] = [3 + i / 10 for i in range(len(ids))]
    record["timings"] = {"queued_s": 1.0, "prefill_s": 1.5, "first_token_s": 3.0, "decode_s": 7.0, "total_s": 10.0}
    return record | {"probabilities": told}


@pytest.fixture(autouse=True)
def leaves_no_widget_behind() -> Iterator[None]:
    before = set(_instances)
    yield
    for widget in [widget for id, widget in _instances.items() if id not in before]:
        if isinstance(widget, panels.Panel):
            widget.close()
    left = [widget for id, widget in _instances.items() if id not in before]
    for widget in left:
        widget.close()
    assert not left


def shown(panel: Any) -> str:
    """All HTML that is on the screen."""
    return "".join(widget.value for widget in on_screen(panel) if isinstance(widget, ipywidgets.HTML))


def on_screen(widget: Any) -> Iterator[Any]:
    yield widget
    for child in getattr(widget, "children", ()):
        yield from on_screen(child)


def live(name: str, record: Any, before: Any = None) -> Any:
    return getattr(widgets, name)(view_of(name, record, before=before))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["real", "hostile", "empty", "huge"])
def test_few_widgets_are_made_and_all_are_freed(name: str, kind: str, record: Record) -> None:
    of = {"real": record, "hostile": hostile(), "empty": {}, "huge": {}}[kind]
    if kind == "huge":
        of = huge(2000)
        of["output_ids"], of["probabilities"] = of["output_ids"][:2000], of["probabilities"][:2000]
    before = len(_instances)
    panel = live(name, of, of | {"prompt": "before"})

    assert len(_instances) - before < MOST_WIDGETS
    assert panel.alarm.value == ""
    if name == "tokens":
        panel.search.value = "what is nowhere"  # no chip is on the screen then
    panel.close()
    assert len(_instances) == before


@pytest.mark.parametrize("name", NAMES)
def test_markup_of_others_stays_text(name: str) -> None:
    of = hostile()
    of["events"].append([0.3, {"type": "content_block_delta", "index": SCRIPT, "delta": {"text": SCRIPT}}])
    of["token_times"] = [0.2]
    panel = live(name, of, of | {"prompt_ids": [2], "prompt": f"before {SCRIPT}"})
    for widget in list(on_screen(panel)):
        # Everything that can be moved is moved, and everything that can be clicked is clicked.
        if isinstance(widget, ipywidgets.IntSlider | ipywidgets.BoundedIntText):
            widget.value = widget.max
        elif isinstance(widget, ipywidgets.Select) and widget.options:
            widget.index = len(widget.options) - 1
        elif isinstance(widget, ipywidgets.Button):
            widget.click()
    html = shown(panel)

    assert panel.alarm.value == ""
    assert "<script" not in html.lower() and ("alert(&#x27;x&#x27;)" in html or name == "timing")
    assert not any(isinstance(widget, ipywidgets.Label | ipywidgets.HTMLMath) for widget in on_screen(panel)), (
        "sets math"
    )


def test_half_a_character_pair_can_be_sent() -> None:
    call = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "name": "\ud83d"}}
    panel = live("events", {"events": [[0.1, call], [0.2, {"type": "\ud83d"}]]})
    panel.player.go(1000)
    for widget in on_screen(panel):
        assert json.dumps(widget.get_state(), ensure_ascii=False, default=str).encode()


def test_the_static_view_is_in_the_bundle_and_below_it(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    panel = live("tokens", record)
    assert Tokens(record).html() in panel._repr_mimebundle_()["text/html"]
    outputs: list[dict[str, str]] = []
    monkeypatch.setattr(panels, "display", lambda data, raw: outputs.append(data))
    panel._ipython_display_()
    first, second = outputs

    assert panels.VIEW in first and panels.VIEW not in second
    assert Tokens(record).html() in second["text/html"] and second["text/plain"] == Tokens(record).text()
    panel.close()
    panel._ipython_display_()
    assert len(outputs) == 3 and panels.VIEW not in outputs[2], "a closed one still shows its static view"


def test_what_a_callback_raises_is_shown(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    panel = live("tokens", record)
    monkeypatch.setattr(panel, "_details", lambda n: 1 / 0)
    panel.chips.buttons[4].click()
    assert "ZeroDivisionError: division by zero" in panel.alarm.value and "Where it comes from" in panel.alarm.value
    monkeypatch.undo()
    panel.chips.buttons[5].click()
    assert panel.alarm.value == "", "what is mended is not told any more"


def test_without_ipywidgets_one_line_says_what_to_do() -> None:
    code = "import sys; sys.modules['ipywidgets'] = None\nimport nbllama.notebook.widgets"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ModuleNotFoundError: widgets need ipywidgets: `%pip install ipywidgets`" in result.stderr.splitlines()[-1]


def test_a_token_is_picked_by_click_and_by_number(record: Record) -> None:
    view = Tokens(record | {"cached_tokens": 2})
    panel = widgets.tokens(view)
    place = next(n for n, token in enumerate(view.prompt) if token.origin.kind == "system")
    panel.chips.buttons[place].click()
    token = view.prompt[place]

    assert panel.pick.value == place
    for said in (f"{token.id:,}", "system", "computed for this request", f"number {place} of the prompt"):
        assert said in panel.details.value
    assert all(f"{byte:02x}" in panel.details.value for byte in token.piece or b"")
    panel.pick.value = 1
    assert "from the cache" in panel.details.value
    panel.pick.value = len(view.prompt) + 1
    assert "of the answer" in panel.details.value and "answer: " in panel.details.value
    first = (panel.chips.page.value - 1) * PER_PAGE
    assert first <= len(view.prompt) + 1 < first + PER_PAGE, "its page is turned to"


def test_tokens_are_filtered_and_searched(record: Record) -> None:
    view = Tokens(record)
    panel = widgets.tokens(view)
    panel.filter.value = "from user"
    of_user = [token for token in view.prompt if token.origin.kind == "user"]
    assert texts(panel) == [token.shown for token in of_user]
    panel.filter.value, panel.search.value = "everything", "Paris"
    assert "".join(texts(panel)).count("Paris") == panel.found.value.count("Paris") + 1
    panel.search.value = f"#{of_user[0].id}"
    assert set(texts(panel)) == {of_user[0].shown}
    for no_id in ("#²", "#" + "9" * 5000):
        panel.search.value = no_id
        assert panel.alarm.value == "" and texts(panel) == []
    panel.search.value = f"#{of_user[0].id}"
    panel.chips.buttons[0].click()
    panel.in_place.click()
    assert panel.search.value == "" and len(texts(panel)) > 1
    panel.search.value = "not there"
    assert texts(panel) == [] and "0 tokens" in panel.found.value
    panel.chips.buttons[3].click()
    assert panel.alarm.value == "", "a click on the way when the chips went"


def texts(panel: Any) -> list[str]:
    buttons = [child for child in panel.chips.grid.children if isinstance(child, ipywidgets.Button)]
    return [button.description for button in buttons]


def test_of_a_megabyte_one_page_exists() -> None:
    panel = widgets.tokens(Tokens(huge(210_000)))
    before = len(_instances)
    assert "tokens 1 to 120 of 230,000" in panel.chips.count.value
    for page in (2, 1000, panel.chips.page.max):
        panel.chips.page.value = page
    assert len(_instances) < before + 10, "pages use the same widgets, but for a new colour"
    assert "to 230,000 of 230,000" in panel.chips.count.value


def test_a_cause_and_a_part_are_shown_side_by_side(both: list[Record]) -> None:
    view = Cache(both[1], both[0])
    panel = widgets.cache(view)
    assert [cause.name for cause in view.causes] == ["timestamp"]
    assert "10:" in panel.sides.value and ">00</span>" in panel.sides.value and ">07</span>" in panel.sides.value
    assert view.causes[0].advice in panel.said.value.replace("&#x27;", "'")
    length = len(panel.sides.value)
    panel.around.value = 2000
    assert len(panel.sides.value) > length
    system = next(n for n, row in enumerate(view.rows()) if row["origin"] == "system")
    panel.parts.value = system
    assert panel.causes.value is None and ">07</span>" in panel.sides.value
    panel.causes.value = 0
    assert panel.parts.value is None


def test_what_the_engine_dropped_is_shown_as_the_same(both: list[Record]) -> None:
    after = both[0] | {"cached_tokens": 3}
    panel = widgets.cache(Cache(after, both[0]))
    assert panel.view.causes[0].name == "eviction"
    assert "now: computed again" in panel.sides.value and "border-bottom" not in panel.sides.value


def test_one_word_again_and_again_is_compared_in_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 0
    longest = SequenceMatcher.find_longest_match

    def counted(matcher: Any, *place: Any) -> Any:
        nonlocal steps
        steps += 1
        assert steps < 20, "each looks at every pair of equal words"
        return longest(matcher, *place)

    monkeypatch.setattr(SequenceMatcher, "find_longest_match", counted)
    assert "border-bottom" in side_by_side("a," * 3000, "a." * 3000)
    assert "border-bottom" not in side_by_side("a," * 3000, "a," * 3000)


def test_the_parser_is_stepped_forward_and_back(record: Record) -> None:
    view = Calls(record)
    panel = widgets.calls(view)
    rows = view.rows()
    assert "before the first" in panel.where.value
    panel.player.on.click()
    assert rows[0]["decision"] in panel.state.value and rows[0]["state"] in panel.state.value
    call = next(n for n, row in enumerate(rows) if "ToolStart" in row["pieces"])
    panel.player.slider.value = call + 1
    for said in ("get_weather", "input_json_delta" if "delta" in rows[call]["events"] else "content_block_start"):
        assert said in panel.events.value
    assert f"step {call + 1} of {len(rows)}" in panel.where.value
    panel.player.back.click()
    assert f"step {call} of {len(rows)}" in panel.where.value
    panel.player.play.value = 2
    assert panel.player.slider.value == 2, "playing moves the slider"


def test_what_the_grammar_forced_and_forbade_is_told(record: Record) -> None:
    panel = widgets.calls(Calls(record))
    told = []
    for place in range(1, panel.player.slider.max + 1):
        panel.player.go(place)
        told.append(panel.grammar.value)
    assert sum(one.count("forced: no other was possible") for one in told) == 1
    assert sum(one.count("50.0%") for one in told) >= 2, "what was taken away, and what was forbidden"


def test_a_failure_leads_to_its_step() -> None:
    raw = 'Look:\n<tool_call>\n{"name": get_weather}\n</tool_call>'
    steps = [
        {"start": 0, "end": 6, "state": "start", "decision": "text", "pieces": ["TextDelta"]},
        {"start": 6, "end": len(raw), "state": "call", "decision": "no call after all", "pieces": ["TextDelta"]},
    ]
    panel = widgets.calls(Calls({"output_text": raw, "parser_steps": steps}))
    panel.failures.value = 0
    assert panel.player.place == 2 and "no call after all" in panel.state.value
    panel.player.back.click()
    assert panel.failures.value is None, "it can be picked again"


def test_the_message_grows_with_the_time(record: Record) -> None:
    panel = widgets.events(Events(record))
    assert "Nothing has come yet" in panel.message.value
    lengths = []
    for tick in range(0, 1001, 100):
        panel.player.slider.value = tick
        lengths.append(panel.n)
    assert all(a <= b for a, b in pairwise(lengths)) and lengths[-1] == len(record["events"])
    # The events come from second 2 to second 10, and the slider begins at 0.
    assert lengths[1] == 0 and lengths[6] == pytest.approx(len(record["events"]) / 2, abs=1.5)
    for said in ("I look it up.", "block 2: tool_use", "get_weather", "stop_reason: tool_use", "is complete"):
        assert said in panel.message.value
    panel.player.back.click()
    assert panel.n == len(record["events"]) - 1 and "The message is complete" not in panel.message.value


def test_of_a_stream_of_errors_the_last_ones_are_shown() -> None:
    error = {"type": "error", "error": {"message": "no cells"}}
    panel = widgets.events(Events.of([{"type": "message_start", "message": {}}, *[error] * 2000]))
    panel.player.go(2001)
    assert panel.message.value.count("no cells") == 12 and "1,988 endings before these" in panel.message.value


def test_the_player_has_any_speed(record: Record) -> None:
    player = widgets.events(Events(record)).player
    for speed in (0.01, 0.5, 1.0, 20.0):
        player.speed.value = speed
        seconds = player.slider.max / player.play.step * player.play.interval / 1000
        assert seconds == pytest.approx(10 / speed, rel=0.15)


def test_the_player_reaches_the_end_and_begins_anew(record: Record) -> None:
    panel = widgets.events(Events(record))
    play = panel.player.play
    panel.player.slider.value = 3
    while play.value + play.step <= play.max:
        play.value += play.step  # as the browser does
    assert panel.player.slider.value == panel.player.slider.max and panel.n == len(record["events"])
    assert play.value == play.max, "from there the browser begins at the start"


def test_events_at_one_time_and_without_times_are_stepped_one_by_one(record: Record) -> None:
    events = [event for _, event in record["events"]]
    for timed in (events, [[1.0, event] for event in events]):
        panel = widgets.events(Events.of(timed))
        for n in range(1, len(events) + 1):
            panel.player.on.click()
            assert panel.n == n
        panel.player.back.click()
        assert panel.n == len(events) - 1


def test_a_finding_leads_to_its_event(record: Record) -> None:
    broken = [one for one in record["events"] if one[1]["type"] != "message_start"]
    view = Events({"events": broken})
    panel = widgets.events(view)
    panel.findings.value = 0
    at = view.findings[0].event
    assert at is not None and panel.n == at + 1 and f"Event {at} in full" in panel.event.value
    panel.player.slider.value = 0
    assert panel.findings.value is None


def test_an_alternative_says_what_it_would_have_meant(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    view = Probabilities(record)
    panel = widgets.probabilities(view)
    panel.chips.buttons[1].click()
    candidates = view.candidates(1)
    assert [one["forbidden"] for one in candidates] == [True, False, False]
    assert "before the mask" in panel.bars.value and "1.00 bits" in panel.bars.value
    assert "✗ forbidden" in panel.bars.value
    panel.alternatives.value = 0
    assert "The grammar forbade it here" in panel.meaning.value and panel.go_on.disabled
    panel.alternatives.value = 2
    assert "1.3 times less probable" in panel.meaning.value and not panel.go_on.disabled
    panel.alternatives.value = 1
    assert "This is what was said" in panel.meaning.value and panel.go_on.disabled
    assert panel.go_on not in list(on_screen(panel)), "nobody can continue it"
    panel.surprising.click()
    assert panel.at == 1
    drawn: list[int] = []
    monkeypatch.setattr(panel.chips, "choose", drawn.append)
    panel.chips.buttons[3].click()
    panel.pick.value = 2
    assert drawn == [3, 2] and panel.at == 2, "each is drawn once"


def test_the_answer_is_continued_and_its_branches_are_a_tree(record: Record) -> None:
    asked_for = []

    def fork(index: int, id: int) -> Any:
        asked_for.append((index, id))
        if len(asked_for) == 2:
            raise ValueError(SCRIPT)
        return f"{begun}went on {SCRIPT}" if len(asked_for) == 1 else ipywidgets.HTML("<b>a widget</b>")

    view = Probabilities(record)
    pieces = (view.reading.piece(id) for id in (record["output_ids"][0], view.candidates(1)[2]["id"]))
    begun = b"".join(piece or b"" for piece in pieces).decode()
    panel = widgets.probabilities(view, fork)
    panel.pick.value = 1
    panel.alternatives.value = 2
    panel.go_on.click()
    assert asked_for == [(1, view.candidates(1)[2]["id"])]
    assert "└─ token 1" in panel.branches.tree.value and "</span>went on &lt;script" in panel.branches.tree.value
    panel.go_on.click()
    assert "ValueError: &lt;script" in panel.alarm.value and len(panel.branches.grown) == 1
    assert not panel.go_on.disabled and panel.go_on.description == "continue from here"
    panel.go_on.click()
    assert panel.alarm.value == "" and len(panel.branches.results.children) == 2
    assert "<script" not in shown(panel)


def test_timing_is_switched_between_phases_and_tokens(record: Record) -> None:
    panel = widgets.timing(Timing([record, record | {"id": "req_other", "token_times": None}]))
    assert "computing the prompt" in panel.said.value and "1.50 s" in panel.said.value
    panel.switch.value = "per token"
    panel.token.value = 4
    assert "Token 4 came at 3.40 s, 100 ms after the token before it, 10.0 tokens a second" in panel.said.value
    panel.request.value = 1
    assert "not recorded" in panel.bars.value
    panel.switch.value = "per phase"
    assert "Bars of 2 requests" in panel.bars.value
