"""Tab in `%llama` and `%%llama`, as a notebook asks IPython for it."""

from __future__ import annotations

import pytest
from IPython.core.completer import provisionalcompleter

from nbllama.notebook.magics.conversation import conversations
from tests.notebook.conftest import Shell
from tests.notebook.fake_worker import FakeWorker

FRAMES = "import pandas as pd\nprices = pd.DataFrame({'x': [1]})\nprose = 'text'"


def offered(shell: Shell, code: str) -> set[str]:
    """What is offered for the code up to `|`."""
    before, _, after = code.partition("|")
    with provisionalcompleter():
        return {one.text for one in shell.ip.Completer.completions(before + after, len(before))}


@pytest.mark.parametrize(
    ("code", "some"),
    [
        ("%llama |", {"status", "running", "error", "chats"}),
        ("%llama st|", {"status", "stop"}),
        ("x = %llama mod|", {"models"}),
        ("%llama load smo|", {"smollm2", "smollm2:base"}),
        ("%llama cancel |", {"all", "req_1", "req_2"}),
        ("%llama chats show pu|", {"pupil"}),
        ("%llama claude |", {"sh", "powershell", "settings"}),
        ("%llama error --cod|", {"--code"}),
        ("%%llama --m|\nHi", {"--max-tokens", "--model"}),
        ("%%llama -m |\nHi", {"fake"}),
        ("%%llama --greedy -i pr|\nHi", {"prices"}),
        ("%%llama --chat |\nHi", {"pupil"}),
        ("%%llama -s {{pro|", {"prose"}),
        ("%%llama\nSay {{pr|}}", {"prices", "prose"}),
    ],
)
def test_what_is_offered(shell: Shell, code: str, some: set[str]) -> None:
    conversations.keep(conversations.begin("pupil"))
    shell.run(FRAMES)
    found = offered(shell, code)

    assert some <= found if code == "%llama |" else some == found


def test_elsewhere_python_is_offered(shell: Shell) -> None:
    shell.run(FRAMES)

    assert "prose" in offered(shell, "pro|")
    assert "%llama" in offered(shell, "%lla|")
    assert "--max-tokens" not in offered(shell, "%%timeit --m|\n1")
    assert "endswith" in offered(shell, "prose.ends|")


def test_one_matcher_however_often_it_is_loaded(shell: Shell) -> None:
    before = len(shell.ip.Completer.custom_matchers)
    shell.run("%reload_ext nbllama")
    assert len(shell.ip.Completer.custom_matchers) == before
    shell.run("%unload_ext nbllama")
    assert len(shell.ip.Completer.custom_matchers) == before - 1
    assert not {"status", "stop"} <= offered(shell, "%llama st|")


def test_a_dead_worker_offers_nothing_and_says_nothing(
    shell: Shell, worker: FakeWorker, capsys: pytest.CaptureFixture[str]
) -> None:
    worker.die()

    assert "fake" not in offered(shell, "%%llama -m |\nHi")
    assert offered(shell, "%llama cancel |") == {"all"}
    assert capsys.readouterr() == ("", "")
