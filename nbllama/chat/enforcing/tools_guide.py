"""A request's tools → a guide; a schema that no grammar can follow costs that tool its enforcement, not the request."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nbllama.chat.enforcing.choice import Choice
from nbllama.chat.enforcing.tools_grammar import Plan, tools_grammar
from nbllama.chat.errors import SchemaRefused
from nbllama.chat.format import Format
from nbllama.chat.guides import Guide
from nbllama.chat.schema import MAX_PROPERTIES, prepared
from nbllama.chat.structured import FIELD, Thinking

if TYPE_CHECKING:
    from nbllama.chat.grammar import Grammars


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request says of calls. `tools` maps names to schemas as they were sent; `strict` must be followed.

    `named`: only this tool may be called. `answer_schema`: what an answer that is no call has to be."""

    tools: Mapping[str, Any]
    strict: Collection[str] = field(default_factory=frozenset)
    named: str | None = None
    forced: bool = False
    one: bool = False
    answer_schema: dict[str, Any] | None = None


def tools_guide(
    grammars: Grammars, format: Format, wish: Wish, thinking: Thinking, tail: str
) -> tuple[Guide | None, list[str]]:
    """The guide, and what the trace is to say. Raises SchemaRefused for a strict tool or an answer's schema."""
    return _Compiler(grammars, format, wish, thinking, tail).compiled()


class _Compiler:
    def __init__(self, grammars: Grammars, format: Format, wish: Wish, thinking: Thinking, tail: str) -> None:
        self._grammars = grammars
        self._format = format
        self._wish = wish
        self._thinking = thinking
        self._tail = tail
        self._places = {name: f"tools.{index}.custom.input_schema" for index, name in enumerate(wish.tools)}
        self._notes: list[str] = []

    def compiled(self) -> tuple[Guide | None, list[str]]:
        wish = self._wish
        names = [wish.named] if wish.named in wish.tools else list(wish.tools)
        schemas = {str(name): self._prepared(str(name)) for name in names}
        value = None if wish.answer_schema is None else prepared(wish.answer_schema, FIELD)
        choice = Choice(schemas, wish.forced, wish.one, value)
        try:
            return self._guide(choice), self._notes
        except SchemaRefused:
            followed = {name: self._followed(name, schema) for name, schema in schemas.items()}
            return self._guide(Choice(followed, wish.forced, wish.one, value)), self._notes

    def _prepared(self, name: str) -> dict[str, Any]:
        schema, place = self._wish.tools[name], self._places[name]
        try:
            return prepared(schema, place)
        except SchemaRefused as error:
            return self._loosened(name, schema, error)

    def _followed(self, name: str, schema: dict[str, Any]) -> dict[str, Any]:
        """The schema if a grammar of this tool alone can be made, else a loose one."""
        try:
            plan = self._planned(Choice({name: schema}, forced=True, one=True), "none", "")
            if plan.lark is not None:
                self._grammars.guide(plan.lark)
            return schema
        except SchemaRefused as error:
            return self._loosened(name, schema, error)

    def _loosened(self, name: str, schema: Any, error: SchemaRefused) -> dict[str, Any]:
        """The same arguments with any values. Raises SchemaRefused if the tool is strict."""
        place = self._places[name]
        words = str(error) if place in str(error) else f"{place}: {error}"
        if name in self._wish.strict:
            raise SchemaRefused(words) from error
        self._notes.append(f"{words}; the tool's arguments are not held to its schema")
        properties = schema.get("properties") if isinstance(schema, dict) else None
        if not isinstance(properties, dict) or not 0 < len(properties) <= MAX_PROPERTIES:
            return {"type": "object"}
        needed = [key for key in schema.get("required") or [] if key in properties]
        return {"type": "object", "properties": {key: {} for key in properties}, "required": needed}

    def _planned(self, choice: Choice, thinking: Thinking, tail: str) -> Plan:
        try:
            return tools_grammar(self._format, choice, thinking, tail, self._grammars.control)
        except (TypeError, ValueError, AttributeError, LookupError) as error:
            # Schemas come as they are: an enum may be a number, a required a word.
            raise SchemaRefused("this is no valid JSON Schema") from error

    def _guide(self, choice: Choice) -> Guide | None:
        plan = self._planned(choice, self._thinking, self._tail)
        self._notes += [note for note in plan.notes if note not in self._notes]
        return self._grammars.guide(plan.lark) if plan.lark is not None else None
