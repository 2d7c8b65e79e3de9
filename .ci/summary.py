"""Counts a CI run: `summary.py RESULTS ALLOWED_SKIPS`. RESULTS holds `groups` and pytest's `GROUP.xml` or
`GROUP.MORE.xml` files.

A group without an XML file counts as one test. A skip that ALLOWED_SKIPS does not allow counts as a failure.
"""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Counts:
    """`notes` are the lines that explain each failure."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    notes: list[str] = field(default_factory=list)

    def fail(self, note: str) -> None:
        self.failed += 1
        self.notes.append(note)


def main(results: Path, allowed_skips: Path) -> int:
    counts, allowed = Counts(), read_patterns(allowed_skips)
    print("\n=== summary")
    for line in (results / "groups").read_text(encoding="utf-8").splitlines():
        name, status, seconds = line.split()
        if status == "-":
            print(f"{name:<12} NOT RUN (time)")
            continue
        print(f"{name:<12} ran, {seconds} s, exit status {status}")
        count_group(counts, results, name, int(status), allowed)
    print("\n".join(counts.notes))
    print(f"ci: {counts.passed} passed, {counts.failed} failed, {counts.skipped} skipped")
    return 1 if counts.failed or not counts.passed else 0


def count_group(counts: Counts, results: Path, name: str, status: int, allowed: list[re.Pattern[str]]) -> None:
    failed_before = counts.failed
    reports = sorted(results.glob(f"{name}.*xml"))
    for report in reports:
        for case in ET.parse(report).iter("testcase"):
            count_case(counts, case, name, allowed)
    if status == 0 and not reports:
        counts.passed += 1
    if status != 0 and counts.failed == failed_before:
        counts.fail(f"FAILED {name}: exit status {status}" + (" (time)" if status in (124, 137) else ""))


def count_case(counts: Counts, case: ET.Element, group: str, allowed: list[re.Pattern[str]]) -> None:
    name = f"{group}: {case.get('classname')}.{case.get('name')}"
    skipped = case.find("skipped")
    if case.find("failure") is not None or case.find("error") is not None:
        counts.fail(f"FAILED {name}")
    elif skipped is None:
        counts.passed += 1
    elif any(pattern.search(skipped.get("message") or "") for pattern in allowed):
        counts.skipped += 1
    else:
        counts.fail(f"FAILED {name}: skipped without being allowed to: {skipped.get('message')}")


def read_patterns(path: Path) -> list[re.Pattern[str]]:
    """One regular expression a line, with why it may be skipped after ` # `."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [re.compile(line.split(" # ")[0].strip()) for line in lines if line.strip() and not line.startswith("#")]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
