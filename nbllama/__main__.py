"""`python -m nbllama` is the command `nbllama`."""

from __future__ import annotations

import sys

from nbllama.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
