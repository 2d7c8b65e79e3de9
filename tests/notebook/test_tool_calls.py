"""One function: what the model is told of it, and what becomes of a call whatever the function does."""

from __future__ import annotations

import asyncio
import builtins
import datetime
import enum
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, cast

import anthropic
import numpy as np
import pandas as pd
import pytest
from anthropic.lib.tools import ToolError
from IPython.core.error import UsageError
from pydantic import BaseModel

from nbllama.notebook.errors import ToolsError
from nbllama.notebook.tools.async_tools import AsyncTools
from nbllama.notebook.tools.calling import Call
from nbllama.notebook.tools.confirming import Confirmation
from nbllama.notebook.tools.results import LIMIT, NotText, content_of
from nbllama.notebook.tools.toolbox import Toolbox, as_tool


def weather(city: str, unit: Literal["C", "F"] = "C") -> str:
    """The weather of a city.

    Args:
        city: its name, as in an atlas
    """
    return f"18 {unit} in {city}"


class Place(BaseModel):
    city: str


def far(place: Place) -> str:
    return Place(city=place.city).city


def broken(x: int) -> str:
    return Place(city=x).city  # type: ignore[arg-type]  # what is tested


@pytest.fixture
def loop() -> Iterator[AsyncTools]:
    with AsyncTools() as started:
        yield started


def called(function: Any, arguments: Any, loop: AsyncTools) -> Call:
    call = Call("toolu_1", "f", arguments)
    call.run(as_tool(function), loop)
    return call


def test_the_schema_comes_from_annotations_and_docstring() -> None:
    (definition,) = Toolbox([weather]).definitions

    assert (definition["name"], definition["description"]) == ("weather", "The weather of a city.")
    schema = definition["input_schema"]
    assert schema["properties"]["city"]["description"] == "its name, as in an atlas"
    assert schema["properties"]["unit"]["enum"] == ["C", "F"]
    assert schema["required"] == ["city"]


def test_the_sdks_own_tools_are_tools() -> None:
    later: Any = asynchronous  # it returns what the SDK does not take, and we do
    tools = [anthropic.beta_tool(weather, name="of"), anthropic.beta_async_tool(name="later")(later)]

    assert [tool["name"] for tool in Toolbox(tools).definitions] == ["of", "later"]


async def asynchronous(x: int) -> int:
    await asyncio.sleep(0)
    return x + 1


@pytest.mark.parametrize(
    ("tools", "told"),
    [
        ([weather, anthropic.beta_tool(weather)], "weather is there twice"),
        ([], "there is none"),
        (weather, "a list of functions"),
        (["weather"], "a function is needed, not 'weather'"),
        ([lambda x: x], "no name that a tool can have"),
        ([len], "no schema for len"),
        ([anthropic.beta_tool(cast(Any, asynchronous))], "beta_async_tool"),
    ],
)
def test_what_cannot_be_a_tool(tools: Any, told: str) -> None:
    with pytest.raises(ToolsError, match=told) as raised:
        Toolbox(tools)
    assert isinstance(raised.value, UsageError)


def test_arguments_that_no_model_can_write() -> None:
    def table(frame: pd.DataFrame) -> str:
        return ""

    def many(*numbers: int) -> str:
        return ""

    with pytest.raises(ToolsError, match=r"no schema for table: .*DataFrame"):
        Toolbox([table])
    with pytest.raises(ToolsError, match=r"many takes \*args"):
        Toolbox([many])


@pytest.mark.parametrize(
    ("function", "arguments", "told"),
    [
        (weather, {"city": "Rome", "unit": "K"}, "The arguments do not fit f: unit: Input should be 'C' or 'F'"),
        (weather, {}, "The arguments do not fit f: city: Missing required argument"),
        (weather, {"city": "Rome", "town": 1}, "The arguments do not fit f: town: Unexpected keyword argument"),
        (weather, ["Rome"], "The arguments do not fit f: Input must be a dictionary"),
        (far, {"place": {"city": 3}}, "The arguments do not fit f: place.city: Input should be a valid string (got 3)"),
        (asynchronous, {"x": "one"}, "The arguments do not fit f: x: Input should be a valid integer"),
    ],
)
def test_arguments_that_do_not_fit_name_the_field(function: Any, arguments: Any, told: str, loop: AsyncTools) -> None:
    call = called(function, arguments, loop)

    assert call.state == "error" and call.result["is_error"]
    assert str(call.content).startswith(told)
    assert call.traceback == ""


def test_what_a_function_raises_is_told_and_its_traceback_kept(loop: AsyncTools) -> None:
    def divide(x: int) -> float:
        return 1 / x

    call = called(divide, {"x": 0}, loop)

    assert call.result == {
        "type": "tool_result",
        "tool_use_id": "toolu_1",
        "content": "ZeroDivisionError: division by zero",
        "is_error": True,
    }
    assert "return 1 / x" in call.traceback
    assert "nbllama/notebook/" not in call.traceback.replace("tests/notebook", "") and "pydantic" not in call.traceback


def test_a_validation_error_of_the_functions_own_is_not_one_of_its_arguments(loop: AsyncTools) -> None:
    call = called(broken, {"x": 1}, loop)

    assert str(call.content).startswith("pydantic_core._pydantic_core.ValidationError: 1 validation error for Place")
    assert "Place(city=x)" in call.traceback


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError("x"), ToolError("no such city")])
def test_other_ways_out_of_a_function_end_the_call_alone(error: BaseException, loop: AsyncTools) -> None:
    def leave() -> str:
        raise error

    async def leave_later() -> str:
        raise error

    for function in (leave, leave_later):
        call = called(function, {}, loop)
        assert call.state == "error"
        assert call.content == "no such city" if isinstance(error, ToolError) else call.traceback


def test_async_functions_share_a_loop(loop: AsyncTools) -> None:
    async def current() -> int:
        return id(asyncio.get_running_loop())

    assert called(asynchronous, {"x": 1}, loop).content == "2"
    assert called(current, {}, loop).value == called(current, {}, loop).value


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "content"),
    [
        ("plain <b>", "plain <b>"),
        (None, "null"),
        (3.5, "3.5"),
        ({"a": [1, (2, 3)], "ü": {4}}, '{"a": [1, [2, 3]], "ü": [4]}'),
        ([{"type": "text", "text": "x"}], '[{"type": "text", "text": "x"}]'),
        (np.int64(7), "7"),
        (np.arange(3), "[0, 1, 2]"),
        (
            {"n": pd.NA, "day": datetime.date(2026, 1, 2), "c": Colour.RED},
            '{"n": null, "day": "2026-01-02", "c": "red"}',
        ),
        (Place(city="Rome"), '{"city": "Rome"}'),
        ("\ud800", "?"),
        (pd.Series([1, 2], name="n"), "[2 rows]\n0    1\n1    2"),
        (pd.DataFrame({"a": [1], "b": ["x"]}), "[1 rows, 2 columns]\n   a  b\n0  1  x"),
    ],
)
def test_what_a_function_returns_becomes_text(value: Any, content: str) -> None:
    assert content_of(value) == content


def test_content_blocks_pass_where_the_tool_is_the_sdks(loop: AsyncTools) -> None:
    blocks: list[Any] = [{"type": "text", "text": "x"}]

    @anthropic.beta_tool
    def made() -> list[Any]:
        return blocks

    assert called(made, {}, loop).content == blocks
    assert called(made.func, {}, loop).content == '[{"type": "text", "text": "x"}]'


def test_large_results_are_cut_with_a_count() -> None:
    text = str(content_of("x" * 1_000_000))
    table = str(content_of(pd.DataFrame({f"c{n}": range(100_000) for n in range(50)})))

    assert text == "x" * LIMIT + "\n[cut: the first 4,000 of 1,000,000 characters]"
    assert table.startswith("[100,000 rows, 50 columns]\n") and len(table) < LIMIT + 100


class Nasty:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (object(), "a object, which cannot be sent as text: return str, a number"),
        (b"\xff\xd8\xff", "a bytes"),
        ((n for n in range(3)), "a generator"),
        (Nasty(), "its repr raised RuntimeError"),
        (builtins.print, "<built-in function print>"),
    ],
)
def test_what_is_no_text_is_a_tool_error_that_says_so(value: Any, told: str, loop: AsyncTools) -> None:
    with pytest.raises(NotText, match=told):
        content_of(value)

    call = called(as_function(value), {}, loop)
    assert (call.state, call.value) == ("error", value)
    assert told in str(call.content) and call.traceback == ""


def as_function(value: Any) -> Callable[[], Any]:
    def give() -> Any:
        return value

    return give


def test_an_endless_list_is_no_text(tmp_path: Path) -> None:
    endless: list[Any] = [tmp_path]
    endless.append(endless)

    with pytest.raises(NotText, match=r"Its repr: \[.*\[\.\.\.\]"):
        content_of(endless)


@pytest.mark.parametrize(
    ("answer", "refusal", "asks_again"),
    [
        ("y", None, True),
        (" YES ", None, True),
        ("all", None, False),
        ("", "The user declined this call.", True),
        ("n", "The user declined this call.", True),
        ("not on Sundays", "The user declined this call. They said: not on Sundays", True),
    ],
)
def test_confirming(answer: str, refusal: str | None, asks_again: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def give(text: str) -> str:
        asked.append(text)
        return answer

    monkeypatch.setattr(builtins, "input", give)
    confirmation = Confirmation(True)

    assert confirmation.refusal(Call("t", "rm", {"path": "a\n\x1b[2Jb" + "c" * 999})) == refusal
    assert confirmation.wanted is asks_again
    assert (
        asked[0].startswith('Run rm {"path": "a\\n\\u001b[2Jb') and "(1,024 characters, all of them above)" in asked[0]
    )


def test_where_nobody_can_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(text: str) -> str:
        raise EOFError

    monkeypatch.setattr(builtins, "input", closed)
    with pytest.raises(ToolsError, match="nobody can be asked here"):
        Confirmation(True).refusal(Call("t", "f", {}))
