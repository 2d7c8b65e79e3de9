"""The tiny random llama, loaded so that equal work gives equal numbers."""

from __future__ import annotations

from pathlib import Path

from nbllama.engine.llama_runtime import LlamaOptions

DEMO = Path(__file__).parents[2] / "nbllama" / "models" / "demo.gguf"
EXACT = LlamaOptions(n_ctx=1024, n_threads=1, flash_attention=False, f32_cells=True)
