"""`%%llama` and `%llama`: `llama.py` reads the line, `asked_cell.py` does what a cell asks, `commands.py` the rest."""
