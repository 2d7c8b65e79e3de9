"""Tools that have a type instead of a schema and run at the client: what the API itself shows the model of them.

Source: anthropic-api §2.7. A type's date says which edition it is; one that is newer than this table is taken for the
newest here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Schema = dict[str, Any]


def _object(properties: Schema, *required: str) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required)}


def _text(description: str) -> Schema:
    return {"type": "string", "description": description}


def _number(description: str) -> Schema:
    return {"type": "integer", "description": description}


def _pair(description: str) -> Schema:
    return {"type": "array", "items": {"type": "integer"}, "description": description}


def _one_of(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def _bash(date: str) -> tuple[str, str, Schema]:
    properties = {
        "command": _text("The command to run. Needed unless restart is true."),
        "restart": {"type": "boolean", "description": "true: start a new shell instead."},
    }
    return "bash", "Runs a command in a bash shell that stays open between calls.", _object(properties)


def _text_editor(date: str) -> tuple[str, str, Schema]:
    # Up to January 2025 the editor had another name and could undo.
    is_old = date < "20250429"
    commands = ["view", "create", "str_replace", "insert", *(["undo_edit"] if is_old else [])]
    inserted = "new_str" if is_old else "insert_text"
    properties = {
        "command": _one_of(*commands),
        "path": _text("The absolute path of a file or folder."),
        "file_text": _text("create: the whole content of the new file."),
        "old_str": _text("str_replace: the text to replace, which must occur exactly once."),
        "new_str": _text("str_replace: the text to put in its place."),
        "insert_line": _number("insert: the number of the line to insert after, 0 for the beginning."),
        inserted: _text("The new text of str_replace or insert." if is_old else "insert: the text to insert."),
        "view_range": _pair("view: first and last line, from 1; -1 is the end."),
    }
    name = "str_replace_editor" if is_old else "str_replace_based_edit_tool"
    return name, "Shows, creates and edits text files.", _object(properties, "command", "path")


def _memory(date: str) -> tuple[str, str, Schema]:
    properties = {
        "command": _one_of("view", "create", "str_replace", "insert", "delete", "rename"),
        "path": _text("The path below /memories, for every command but rename."),
        "view_range": _pair("view: first and last line, from 1."),
        "file_text": _text("create: the whole content of the file."),
        "old_str": _text("str_replace: the text to replace."),
        "new_str": _text("str_replace: the text to put in its place."),
        "insert_line": _number("insert: the number of the line to insert after."),
        "insert_text": _text("insert: the text to insert."),
        "old_path": _text("rename: the path now."),
        "new_path": _text("rename: the path afterwards."),
    }
    return "memory", "Keeps notes for later conversations as files below /memories.", _object(properties, "command")


def _computer(date: str) -> tuple[str, str, Schema]:
    actions = ["key", "type", "mouse_move", "left_click", "left_click_drag", "right_click", "middle_click"]
    actions += ["double_click", "screenshot", "cursor_position"]
    if date >= "20250124":
        actions += ["triple_click", "left_mouse_down", "left_mouse_up", "scroll", "hold_key", "wait"]
    if date >= "20251124":
        actions.append("zoom")
    properties = {
        "action": _one_of(*actions),
        "coordinate": _pair("x and y in pixels."),
        "start_coordinate": _pair("left_click_drag: where to begin."),
        "text": _text("The text to type, or the key to press."),
        "scroll_direction": _one_of("up", "down", "left", "right"),
        "scroll_amount": _number("scroll: how many steps."),
        "duration": {"type": "number", "description": "hold_key and wait: seconds."},
        "region": _pair("zoom: left, top, right and bottom in pixels."),
    }
    return "computer", "Uses the mouse, the keyboard and the screen of a computer.", _object(properties, "action")


_KINDS: dict[str, Callable[[str], tuple[str, str, Schema]]] = {
    "bash": _bash,
    "text_editor": _text_editor,
    "memory": _memory,
    "computer": _computer,
}
CLIENT_TYPES = tuple(f"{kind}_*" for kind in _KINDS)


def is_client_type(type: str) -> bool:
    """Whether `type` is a known kind with a date."""
    kind, _, date = type.rpartition("_")
    return kind in _KINDS and len(date) == 8 and date.isdecimal()


def definition(type: str) -> tuple[str, str, Schema]:
    """(name, description, JSON Schema of the input) of a client type."""
    kind, _, date = type.rpartition("_")
    return _KINDS[kind](date)
