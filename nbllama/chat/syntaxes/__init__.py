"""How calls look inside. Each module reads one syntax; `readers.py` lists them."""
