"""The contract, by llama.cpp: with llama_{adapter,vocabulary,sampler}.py the only files that import llama_cpp.

Over the low-level API, because the binding's high-level class cannot batch. All calls go through ctypes' CDLL, which
releases the GIL: decode, load and tokenise run beside the event loop.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import llama_cpp
import numpy as np
import numpy.typing as npt

from nbllama.engine.abort_flag import AbortFlag
from nbllama.engine.candidates import allowed_candidates, candidates, worth_it
from nbllama.engine.errors import DecodeAborted, DecodeFailed, EngineError, LoadFailed, NoCells
from nbllama.engine.gguf_file import check_file
from nbllama.engine.guide import BitGuide, Guide
from nbllama.engine.library_trial import WARNING
from nbllama.engine.llama_adapter import LoraFile, load_adapter, use_adapter
from nbllama.engine.llama_sampler import LlamaSampler, choose
from nbllama.engine.llama_vocabulary import LlamaVocabulary
from nbllama.engine.runtime import Row, RuntimeInfo, Sampler
from nbllama.engine.sampling import SamplingSettings

log = logging.getLogger(__name__)
_LEVELS = {3: logging.WARNING, 4: logging.ERROR}
DEFAULT_CTX = 8192
# The runtimes that were asked to interrupt: llama.cpp calls that an error, three times, but it is somebody's cancel.
_interrupted: set[int] = set()


@dataclass(frozen=True, slots=True)
class LlamaOptions:
    """How to load. `n_ctx` None = 8,192 or what the model was trained for, the smaller.

    `extra_buffers`: weights may be repacked for the processor. `adapter` is laid on the model for good."""

    n_ctx: int | None = None
    n_threads: int | None = None
    n_batch: int = 512
    max_sequences: int = 16
    flash_attention: bool = True
    f32_cells: bool = False
    extra_buffers: bool = True
    adapter: LoraFile | None = None


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]  # ctypes' CFUNCTYPE object
def _log_from_llama(level: int, text: bytes, _data: object) -> None:
    if level in _LEVELS:
        known = logging.DEBUG if _interrupted else _LEVELS[level]
        log.log(known, "llama.cpp: %s", text.decode(errors="replace").rstrip())


def initialise() -> None:
    """Once a process, before the first load: llama.cpp's log goes to ours, warnings and errors only."""
    llama_cpp.llama_log_set(_log_from_llama, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    log.info("llama-cpp-python %s (%s)", llama_cpp.__version__, system_info())


def system_info() -> str:
    """What the library was built for: `CPU : AVX2 = 1 | …`."""
    return bytes(llama_cpp.llama_print_system_info()).decode(errors="replace").strip(" |")


def library_file() -> Path:
    """The shared library that is loaded."""
    return Path(llama_cpp.llama_cpp._lib._name)


class LlamaRuntime:
    """One model and one context. Load with `LlamaRuntime.load`."""

    def __init__(self, model: Any, context: Any, info: RuntimeInfo, vocabulary: LlamaVocabulary) -> None:
        self._model = model
        self._context = context
        self._memory = llama_cpp.llama_get_memory(context)
        self.info = info
        self.vocabulary = vocabulary
        self._batch = llama_cpp.llama_batch_init(info.n_batch, 0, 1)
        self._row_type = ctypes.c_float * info.n_vocab
        self._rows: dict[int, npt.NDArray[np.float32]] = {}
        self._decoded = False
        self._abort = AbortFlag()
        if self._abort.callback is not None:
            callback = ctypes.cast(self._abort.callback, llama_cpp.ggml_abort_callback)
            llama_cpp.llama_set_abort_callback(context, callback, self._abort.data)

    @classmethod
    def load(
        cls, path: Path, name: str, options: LlamaOptions, *, progress: Callable[[float], None] = lambda _: None
    ) -> LlamaRuntime:
        """Loads a GGUF file. `progress` gets 0.0 to 1.0; an EngineError that it raises stops the load.

        Raises LoadFailed with the file's name and the reason.
        """
        check_file(path)
        with contextlib.ExitStack() as undo:
            model = _load_model(path, progress, extra_buffers=options.extra_buffers)
            undo.callback(llama_cpp.llama_model_free, model)
            # Before the context, which makes room for the adapters that its model has.
            lora = options.adapter
            adapter = load_adapter(model, lora) if lora and not lora.merged else None
            trained = int(llama_cpp.llama_model_n_ctx_train(model))
            n_ctx = options.n_ctx or min(DEFAULT_CTX, trained or DEFAULT_CTX)
            context = llama_cpp.llama_init_from_model(model, _context_params(options, n_ctx))
            if not context:
                raise LoadFailed(f"{path} was loaded, but there is no room for a context of {n_ctx} tokens")
            undo.callback(llama_cpp.llama_free, context)
            if adapter:
                use_adapter(context, adapter)
            vocabulary = LlamaVocabulary(llama_cpp.llama_model_get_vocab(model))
            info = _describe(model, context, name, options, n_ctx=n_ctx, vocabulary=vocabulary)
            undo.pop_all()
        return cls(model, context, info, vocabulary)

    def decode(self, rows: Sequence[Row]) -> None:
        batch = self._batch
        batch.n_tokens = len(rows)
        for i, row in enumerate(rows):
            batch.token[i] = row.token
            batch.pos[i] = row.position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = row.sequence
            batch.logits[i] = row.wants_logits
        self._rows.clear()
        code = llama_cpp.llama_decode(self._context, batch)
        if code == 1:
            raise NoCells("the key/value cache is full")
        if code == 2:
            raise DecodeAborted
        if code != 0:
            raise DecodeFailed(code)
        if not self._decoded:
            # Read after a crash, to tell whether the library ever worked.
            self._decoded = True
            log.info("first decode done")

    def interrupt(self, on: bool) -> None:
        (_interrupted.add if on else _interrupted.discard)(id(self))
        self._abort.set(on)

    def new_sampler(self, settings: SamplingSettings) -> LlamaSampler:
        return LlamaSampler(settings)

    def sample(self, row: int, sampler: Sampler, guide: Guide | None = None) -> int:
        own = cast(LlamaSampler, sampler)
        narrow = worth_it(self.info.n_vocab, own.top_k)
        if guide is not None:
            # Not `isinstance`: a protocol's looks at every member, which takes 0.1 ms when the caches are cold.
            if narrow and hasattr(guide, "allowed"):
                allowed = allowed_candidates(self.logits(row), cast(BitGuide, guide).allowed(), own.top_k)
                if allowed is not None:
                    return choose(own.chain, allowed)
            guide.mask(self.logits(row))
        if narrow:
            found = candidates(self.logits(row), own.top_k)
            if len(found):
                return choose(own.chain, found)
        return int(llama_cpp.llama_sampler_sample(own.chain, self._context, row))

    def logits(self, row: int) -> npt.NDArray[np.float32]:
        known = self._rows.get(row)
        if known is not None:
            return known
        pointer = llama_cpp.llama_get_logits_ith(self._context, row)
        # `as_array` makes a type and a pointer each time: 0.07 ms after a decode that has emptied the caches.
        array = self._row_type.from_address(ctypes.addressof(pointer.contents))
        view: npt.NDArray[np.float32] = np.frombuffer(cast(Any, array), dtype=np.float32)
        self._rows[row] = view
        return view

    def cut(self, sequence: int, length: int) -> bool:
        return bool(llama_cpp.llama_memory_seq_rm(self._memory, sequence, length, -1))

    def copy(self, source: int, destination: int, length: int) -> None:
        llama_cpp.llama_memory_seq_cp(self._memory, source, destination, 0, length)

    def clear(self, sequence: int) -> None:
        llama_cpp.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def saved_size(self, sequence: int) -> int:
        return int(llama_cpp.llama_state_seq_get_size_ext(self._context, sequence, 0))

    def save(self, sequence: int) -> npt.NDArray[np.uint8] | None:
        cells = np.empty(self.saved_size(sequence), dtype=np.uint8)
        n = llama_cpp.llama_state_seq_get_data_ext(self._context, _bytes_of(cells), cells.nbytes, sequence, 0)
        return cells if n == cells.nbytes else None

    def restore(self, sequence: int, cells: npt.NDArray[np.uint8]) -> bool:
        if llama_cpp.llama_state_seq_set_data_ext(self._context, _bytes_of(cells), cells.nbytes, sequence, 0):
            return True
        self.clear(sequence)
        return False

    def close(self) -> None:
        if self._context is not None:
            self.vocabulary.close()
            llama_cpp.llama_batch_free(self._batch)
            llama_cpp.llama_free(self._context)
            llama_cpp.llama_model_free(self._model)
            self._context = self._model = self._memory = None


def _bytes_of(cells: npt.NDArray[np.uint8]) -> Any:
    return cells.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))


def _load_model(path: Path, progress: Callable[[float], None], *, extra_buffers: bool) -> Any:
    params = llama_cpp.llama_model_default_params()
    params.use_extra_bufts = extra_buffers
    stopped: list[EngineError] = []

    @llama_cpp.llama_progress_callback  # type: ignore[untyped-decorator]  # ctypes' CFUNCTYPE object
    def report(fraction: float, _data: object) -> bool:
        try:
            progress(fraction)
        except EngineError as error:
            # Kept for later: an exception does not pass through llama.cpp.
            stopped.append(error)
        return not stopped

    params.progress_callback = report
    model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
    if stopped:
        llama_cpp.llama_model_free(model)
        raise stopped[0]
    if not model:
        raise LoadFailed(f"llama.cpp cannot load {path}: the file is broken or of an unknown architecture")
    return model


def _context_params(options: LlamaOptions, n_ctx: int) -> Any:
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = n_ctx
    params.n_batch = params.n_ubatch = options.n_batch
    params.n_seq_max = options.max_sequences
    # One pool of cells for all sequences: sharing prefixes needs it (a partial copy aborts the process otherwise).
    params.kv_unified = True
    # A full cache for sliding-window layers: otherwise a cut past the window succeeds and decodes silently wrong.
    params.swa_full = True
    enabled, disabled = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED, llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.flash_attn_type = enabled if options.flash_attention else disabled
    if options.f32_cells:
        params.type_k = params.type_v = llama_cpp.GGML_TYPE_F32
    n_threads = options.n_threads or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else [0] * 4)
    params.n_threads = params.n_threads_batch = n_threads
    params.no_perf = True
    return params


def _describe(
    model: Any, context: Any, name: str, options: LlamaOptions, *, n_ctx: int, vocabulary: LlamaVocabulary
) -> RuntimeInfo:
    vocab = llama_cpp.llama_model_get_vocab(model)
    raw = llama_cpp.llama_model_chat_template(model, None)
    template = raw.decode("utf-8", errors="replace") if raw else None
    whole = bool(llama_cpp.llama_model_is_recurrent(model) or llama_cpp.llama_model_is_hybrid(model))
    return RuntimeInfo(
        name=name,
        n_ctx=n_ctx,
        n_cells=int(llama_cpp.llama_n_ctx(context)),
        # As it came out: a small context makes it smaller, and a batch beyond it aborts the process.
        n_batch=int(llama_cpp.llama_n_batch(context)),
        n_vocab=vocabulary.n_tokens,
        n_ctx_train=int(llama_cpp.llama_model_n_ctx_train(model)),
        max_sequences=options.max_sequences,
        can_share=not whole,
        n_params=int(llama_cpp.llama_model_n_params(model)),
        size_bytes=int(llama_cpp.llama_model_size(model)),
        chat_template=options.adapter.chat_template if options.adapter else template,
        bos=vocabulary.text_of(int(llama_cpp.llama_vocab_bos(vocab))),
        eos=vocabulary.text_of(int(llama_cpp.llama_vocab_eos(vocab))),
        device=_device(context),
        build=llama_cpp.llama_print_system_info().decode(errors="replace").strip(" |"),
        metadata=_metadata(model),
        warnings=() if options.extra_buffers else (WARNING,),
        adapter=options.adapter.info() if options.adapter else None,
    )


def _device(context: Any) -> str:
    n_threads = int(llama_cpp.llama_n_threads(context))
    cpu = f"CPU, {n_threads} thread{'' if n_threads == 1 else 's'}"
    return f"{cpu}, in a build that can use a GPU" if llama_cpp.llama_supports_gpu_offload() else cpu


def _metadata(model: Any) -> dict[str, str]:
    """The file's short metadata (`general.*`, `*.context_length` …); templates and vocabularies are left out."""
    buffer = ctypes.create_string_buffer(256)
    found = {}
    for index in range(int(llama_cpp.llama_model_meta_count(model))):
        llama_cpp.llama_model_meta_key_by_index(model, index, buffer, 256)
        key = buffer.value.decode(errors="replace")
        n = llama_cpp.llama_model_meta_val_str_by_index(model, index, buffer, 256)
        if n < 256 and not key.startswith("tokenizer."):
            found[key] = buffer.value.decode(errors="replace")
    return found
