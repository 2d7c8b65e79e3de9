"""What leaves the machine has no keys and no paths in it, however they were cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbllama.views.masking import covered, covered_record
from nbllama.views.page import page
from nbllama.views.tokens import Tokens
from tests.chat.linearity import assert_linear
from tests.views.asking import asked, records, user

KEY = "sk-ant-api03-AbCdEf0123456789_-x"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"key {KEY}.", KEY),
        ("nbllama-0123456789abcdefghij", "nbllama-0123456789abcdefghij"),
        ("ghp_0123456789abcdefghij0123", "ghp_0123456789abcdefghij0123"),
        ("hf_abcdefghijklmnopqrstuvwx", "hf_abcdefghijklmnopqrstuvwx"),
        ("AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "eyJzdWIiOiIxIn0"),
        ("Authorization: Bearer 0123456789abcdef", "0123456789abcdef"),
        ('{"x-api-key": "a-token-for-tests"}', "a-token-for-tests"),
        ("http://localhost:8888/lab?token=0a1b2c3d4e5f6071", "0a1b2c3d4e5f6071"),
        ("PASSWORD=correct-horse", "correct-horse"),
        ("https://ada:lovelace1815@example.org/x", "lovelace1815"),
        ("in /home/ada/course/week 1", "/home/ada/course"),
        ('open("/Users/ada/x.py")', "/Users/ada/x.py"),
        ("file:///home/ada/x.py", "/home/ada"),
        (r"C:\Users\ada\x.py", r"\Users\ada"),
        (r'"C:\\Users\\ada\\x.py"', r"Users\\ada"),
        (r"\\server\share\x", "server"),
        # As the raw text of a call holds it: JSON, in which a line's end is a letter.
        (rf'{{"text": "key:\n{KEY}"}}', KEY),
        (r'{"text": "see\n/home/ada/x.py"}', "/home/ada/x.py"),
        (r'{"text": "see\nC:\\Users\\ada"}', r"Users\\ada"),
        # Without a space, as Chinese writes.
        (f"密钥{KEY}在这里", KEY),
        ("打开/home/ada/x.py", "/home/ada/x.py"),
        ("-----BEGIN RSA PRIVATE KEY-----\nDEK-Info: AES-128-CBC,A\n\nMIIEow\n-----END RSA PRIVATE KEY-----", "MIIEow"),
    ],
)
def test_a_secret_is_covered_and_nothing_moves(text: str, secret: str) -> None:
    assert secret in text and secret not in covered(text)
    assert len(covered(text)) == len(text)


@pytest.mark.parametrize(
    "text",
    [
        "yes/no and 1/2",
        "<tool_call></tool_call>",
        "https://docs.python.org/3/library",
        "max_tokens: 1024",
        "a / b",
        "été/hiver/printemps",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert covered(text) == text


def test_a_key_in_pieces_is_covered_in_tokens_and_deltas(tmp_path: Path) -> None:
    (record,) = records(
        tmp_path,
        asked(user(f"My key is {KEY}, in /home/ada/x.py"), stream=True),
        rules=[{"answer": f"So it is {KEY}!", "spelling": "bytes"}],
    )
    assert KEY in record["prompt"] and KEY in record["output_text"]
    html = page(record)
    shown = Tokens(covered_record(record))
    pieces = "".join(row["piece"] or "•" for row in shown.rows())

    assert "AbCdEf" not in html and "/home/ada" not in html
    assert "AbCdEf" not in pieces and "My key is" in pieces.replace("·", " ")
    assert all(row["id"] is None for row in shown.rows() if row["piece"] is None)
    deltas = [event["delta"] for _, event in covered_record(record)["events"] if "delta" in event]
    text = "".join(delta.get("text", "") for delta in deltas)
    assert text == f"So it is {'•' * len(KEY)}!"


def test_a_number_under_the_name_of_a_secret() -> None:
    masked = covered_record({"request": {"password": 1234567890, "max_tokens": 1234567890}})
    assert masked["request"] == {"password": "•" * 10, "max_tokens": 1234567890}


@pytest.mark.parametrize(
    "part", ["eyJ-", "eyJabcdefghijk.", "/a", "/", "-----BEGIN PRIVATE KEY-----", "://a:", "bearer  ", "\\\\"]
)
def test_a_text_made_to_be_slow_is_read_in_one_go(part: str) -> None:
    """A page is made beside the streams of all others: what is tried again at each place would stop them for hours."""
    assert_linear(lambda n: covered(part * n), 3000)


def test_the_record_itself_is_left_alone() -> None:
    record: dict[str, Any] = {"request": {"api_key": "12345678"}, "events": [[0.1, {"type": "ping", "x": KEY}]]}
    masked = covered_record(record)
    assert record["events"][0][1]["x"] == KEY and record["request"]["api_key"] == "12345678"
    assert masked["events"][0][1]["x"] == "•" * len(KEY) and masked["request"]["api_key"] == "•" * 8
