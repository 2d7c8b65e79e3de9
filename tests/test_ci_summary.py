"""The count that CI ends with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SUMMARY = Path(__file__).resolve().parents[1] / ".ci" / "summary.py"
CASES = """<testsuites><testsuite>
<testcase classname="a" name="good"/><testcase classname="a" name="better"/>{more}
</testsuite></testsuites>"""


def summary(folder: Path, groups: str, **reports: str) -> tuple[int, list[str]]:
    (folder / "groups").write_text(groups)
    (folder / "allowed.txt").write_text("# a comment\nneeds a (GPU|TPU) # there is none\n")
    for name, more in reports.items():
        (folder / f"{name}.xml").write_text(CASES.format(more=more))
    command = [sys.executable, str(SUMMARY), str(folder), str(folder / "allowed.txt")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout.splitlines()


def test_all_good(tmp_path: Path) -> None:
    code, lines = summary(tmp_path, "test 0 60\nlint 0 2\n", test="")
    assert (code, lines[-1]) == (0, "ci: 3 passed, 0 failed, 0 skipped")


def test_a_group_may_have_several_reports(tmp_path: Path) -> None:
    code, lines = summary(tmp_path, "sdk 0 60\n", **{"sdk": "", "sdk.1x": "", "sdks": ""})
    assert (code, lines[-1]) == (0, "ci: 4 passed, 0 failed, 0 skipped")


def test_a_failure_is_named(tmp_path: Path) -> None:
    failure = '<testcase classname="a" name="bad"><failure message="no"/></testcase>'
    code, lines = summary(tmp_path, "test 1 60\n", test=failure)
    assert (code, lines[-1]) == (1, "ci: 2 passed, 1 failed, 0 skipped")
    assert "FAILED test: a.bad" in lines


def test_an_exit_status_without_a_failing_test_is_a_failure(tmp_path: Path) -> None:
    code, lines = summary(tmp_path, "test 124 60\nlint 1 2\n", test="")
    assert (code, lines[-1]) == (1, "ci: 2 passed, 2 failed, 0 skipped")
    assert "FAILED test: exit status 124 (time)" in lines


def test_only_allowed_skips_are_skips(tmp_path: Path) -> None:
    skip = '<testcase classname="a" name="x"><skipped message="{}"/></testcase>'
    code, lines = summary(tmp_path, "test 0 60\n", test=skip.format("this needs a GPU"))
    assert (code, lines[-1]) == (0, "ci: 2 passed, 0 failed, 1 skipped")
    code, lines = summary(tmp_path, "test 0 60\n", test=skip.format("no time"))
    assert (code, lines[-1]) == (1, "ci: 2 passed, 1 failed, 0 skipped")


def test_a_group_without_time_is_said(tmp_path: Path) -> None:
    code, lines = summary(tmp_path, "test 0 60\nsdk - 0\n", test="")
    assert code == 0
    assert any(line.split() == ["sdk", "NOT", "RUN", "(time)"] for line in lines)


def test_nothing_passed_is_a_failure(tmp_path: Path) -> None:
    assert summary(tmp_path, "test - 0\n")[0] == 1
