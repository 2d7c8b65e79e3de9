"""Writes the table of docs/formats.md: every template of a folder, how it was understood, what is read back.

python scripts/formats_table.py FOLDER           writes it
python scripts/formats_table.py FOLDER --check   fails if it would change
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs" / "formats.md"
BEGIN, END = "<!-- table: scripts/formats_table.py -->", "<!-- end of the table -->"


def main() -> int:
    parser = argparse.ArgumentParser(description="Writes or checks the table of docs/formats.md.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="with chat templates, *.jinja")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the table is not up to date")
    args = parser.parse_args()
    text = DOCS.read_text(encoding="utf-8")
    wanted = with_table(text, table(args.folder))
    if args.check:
        if wanted != text:
            print(f"{DOCS} is not up to date: run scripts/formats_table.py", file=sys.stderr)
        return int(wanted != text)
    DOCS.write_text(wanted, encoding="utf-8")
    return 0


def with_table(text: str, table: str) -> str:
    """The document with `table` in its place."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table}\n{END}{rest.partition(END)[2]}"


def table(folder: Path) -> str:
    sys.path.insert(0, str(ROOT))
    from nbllama.chat.template import ChatTemplate

    lines = [
        "| template | family | source | calls | thinking | read back | not read back |",
        "|---|---|---|---|---|---|---|",
    ]
    for path in sorted(folder.glob("*.jinja")):
        # As a vocabulary would say: the table must not depend on a model.
        template = ChatTemplate(path.read_text(encoding="utf-8"), bos="<s>", eos="</s>", control_tokens=())
        lines.append(_row(path.stem, template))
    return "\n".join(lines) + "\n"


def _row(name: str, template: object) -> str:
    format, derived = template.format, template.derived  # type: ignore[attr-defined]
    rendered = [check for check in derived.checks if check.passed is not None]
    passed = sum(check.passed for check in rendered)
    failed = ", ".join(check.name for check in rendered if not check.passed)
    score = f"{passed} of {len(rendered)}" if rendered else "no calls"
    cells = [name, format.family, derived.source, _calls(format), _thinking(format), score, failed or ""]
    return "| " + " | ".join(cells) + " |"


def _calls(format: object) -> str:
    calls, channels = format.calls, format.channels  # type: ignore[attr-defined]
    if channels:
        return f"{_code(channels.start)} … {_code(channels.header_end)}"
    if calls is None:
        return ""
    opened = " ".join(_code(part) for part in (calls.section_open, calls.open) if part)
    return f"{opened} … {_code(calls.close or calls.section_close)}".strip() if opened else "no marker"


def _thinking(format: object) -> str:
    think = format.think  # type: ignore[attr-defined]
    return f"{_code(think.open)} … {_code(think.close)}".strip() if think else ""


def _code(marker: str) -> str:
    return f"`{marker.strip().replace(chr(10), '⏎').replace('|', chr(92) + '|')}`" if marker.strip() else ""


if __name__ == "__main__":
    raise SystemExit(main())
