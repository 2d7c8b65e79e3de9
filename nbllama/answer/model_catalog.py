"""Which models there are, and the loading of each: once, however many requests wait for it."""

from __future__ import annotations

import asyncio
import fnmatch
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from nbllama.answer.generated import GeneratedIds
from nbllama.answer.guiding import LazyGrammars
from nbllama.answer.loading import Loader
from nbllama.answer.model_hash import model_hash
from nbllama.answer.model_sources import ModelError, ModelSource, better_than_demo, resolve
from nbllama.chat.format import from_data
from nbllama.chat.template import ChatTemplate
from nbllama.engine.errors import EngineStopped
from nbllama.engine.loop import EngineLoop
from nbllama.engine.runtime import Runtime, RuntimeInfo, Vocabulary
from nbllama.wire.answers import model_info
from nbllama.wire.errors import InvalidRequest, NotFound

State = Literal["unloaded", "loading", "loaded", "failed"]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """What a request needs of a model; the runtime itself belongs to the engine thread.

    `control` are the ids of its control tokens, `hash` says which file it is."""

    source: ModelSource
    info: RuntimeInfo
    vocabulary: Vocabulary
    template: ChatTemplate
    generated: GeneratedIds
    grammars: LazyGrammars
    control: frozenset[int]
    hash: str


@dataclass(slots=True)
class Entry:
    """One model the service knows. `load` is 0.0 to 1.0."""

    source: ModelSource
    state: State = "unloaded"
    load: float = 0.0
    model: LoadedModel | None = None
    task: asyncio.Task[LoadedModel] | None = None
    error: str | None = None
    created: float = field(default_factory=time.time)


class ModelCatalog:
    """The default model, and those loaded beside it. Event loop only."""

    def __init__(
        self,
        engine: EngineLoop,
        default_ref: str,
        ctx: int | None,
        load: Loader,
        aliases: Mapping[str, str] = MappingProxyType({}),
        formats: Mapping[str, Any] | None = None,
    ) -> None:
        self._aliases = aliases
        self._engine = engine
        self._ctx = ctx
        self._load = load
        self._formats = formats or {}
        self._default_ref = default_ref
        self._entries: dict[str, Entry] = {}
        self._by_ref: dict[str, Entry] = {}
        self._closed = False

    def default(self) -> Entry:
        """The default model's entry. Raises ModelError when its reference names none."""
        return self.entry(self._default_ref)

    def entry(self, ref: str) -> Entry:
        """The entry of a reference, or of an id that is none, made when it is new. Raises ModelError."""
        known = self._by_ref.get(ref)
        if known is not None and (known.model or known.task):
            # Once it is in memory, its file need not be there.
            return known
        try:
            source = resolve(ref)
        except ModelError:
            if ref in self._entries:
                return self._entries[ref]
            raise
        entry = self._entries.setdefault(source.id, Entry(source))
        if entry.source.path != source.path:
            raise ModelError(f"a model with the id {source.id} is there already: {entry.source.path}")
        self._by_ref[ref] = entry
        return entry

    def named(self, model_id: str, default_ref: str | None = None) -> Entry:
        """The model that answers a request for `model_id`: the one of this id, or of an alias, else a default.

        The default is the door's, or else the worker's."""
        if known := self._entries.get(model_id):
            return known
        ref = self._alias(model_id)
        return self.entry(ref) if ref is not None else self.entry(default_ref) if default_ref else self.default()

    def _alias(self, model_id: str) -> str | None:
        """The reference of the first alias that fits, an exact one before every pattern."""
        patterns = (ref for name, ref in self._aliases.items() if fnmatch.fnmatchcase(model_id, name))
        return self._aliases.get(model_id) or next(patterns, None)

    def known(self, model_id: str) -> Entry:
        """The entry with exactly this id or alias. Raises NotFound."""
        if model_id not in self._entries:
            self.default()
        if entry := self._entries.get(model_id):
            return entry
        if model_id in self._aliases:
            return self.entry(self._aliases[model_id])
        raise NotFound(f"model: {model_id}")

    def still_loaded(self, model_id: str, known_hash: str) -> Entry:
        """The entry of the model that has answered before. Raises InvalidRequest if it is gone, or another one."""
        entry = self._entries.get(model_id)
        if entry is None or entry.model is None:
            raise InvalidRequest(f"the model {model_id} is not loaded any more: load it, then try again")
        if entry.model.hash != known_hash:
            raise InvalidRequest(f"the model that is loaded as {model_id} now is another one than had answered")
        return entry

    async def loaded(self, entry: Entry, ctx: int | None = None) -> LoadedModel:
        """The loaded model; loads it first, once for all who wait. A waiter may go away without stopping it.

        Raises InvalidRequest if somebody else's wish for another context came first.
        """
        if entry.model is not None:
            model = entry.model
        elif entry.task is not None:
            model = await _outcome(entry.task)
        else:
            entry.task = asyncio.create_task(self._load_entry(entry, ctx or self._ctx))
            # Its error is kept in the entry; a load whose waiters have all gone must not be reported as unhandled.
            entry.task.add_done_callback(lambda task: task.cancelled() or task.exception())
            return await _outcome(entry.task)
        if ctx is not None and ctx != model.info.n_ctx:
            raise InvalidRequest(
                f"ctx: {entry.source.id} is loaded with a context of {model.info.n_ctx} tokens, "
                f"not {ctx}; unload it first"
            )
        return model

    async def unload(self, model_id: str) -> None:
        """Ends the model's requests and frees its memory. Raises NotFound."""
        entry = self.known(model_id)
        if entry.task is not None:
            await asyncio.wait([entry.task])
        if entry.model is None:
            return
        entry.model, entry.state, entry.load = None, "unloaded", 0.0
        freed, loop = asyncio.Event(), asyncio.get_running_loop()

        def tell() -> None:
            loop.call_soon_threadsafe(freed.set)

        self._engine.remove_model(model_id, tell)
        await freed.wait()

    def close(self) -> None:
        """Ends the loads that are still going on, and the waiting for them."""
        self._closed = True
        for entry in self._entries.values():
            if entry.task is not None:
                entry.task.cancel()

    def describe(self) -> list[dict[str, Any]]:
        """Every model for `status`."""
        return [_status(entry, is_default=entry.source.ref == self._default_ref) for entry in self._entries.values()]

    def infos(self) -> list[dict[str, Any]]:
        """Every model as the API's ModelInfo, the default first; then the aliases that are no patterns."""
        self.default()
        names = [name for name in self._aliases if "*" not in name and name not in self._entries]
        aliases = [info_of(self.entry(self._aliases[name])) | {"id": name} for name in names]
        return [*(info_of(entry) for entry in self._entries.values()), *aliases]

    async def _load_entry(self, entry: Entry, ctx: int | None) -> LoadedModel:
        entry.state, entry.error, entry.load = "loading", None, 0.0

        def progress(fraction: float) -> None:
            entry.load = fraction
            if self._closed:
                # The process cannot end before the thread that loads.
                raise EngineStopped("the server is stopping")

        try:
            runtime, model = await asyncio.to_thread(self._load_whole, entry.source, ctx, progress)
        except Exception as error:
            entry.state, entry.error = "failed", str(error)
            raise
        finally:
            entry.task = None
        self._engine.add_model(entry.source.id, runtime)
        entry.model, entry.state, entry.load = model, "loaded", 1.0
        return model

    def _load_whole(
        self, source: ModelSource, ctx: int | None, progress: Callable[[float], None]
    ) -> tuple[Runtime, LoadedModel]:
        runtime = self._load(source, ctx, progress)
        try:
            return runtime, _understand(source, runtime, self._formats.get(source.id))
        except Exception:
            # Nobody else knows of it, and every further try would leave another one in memory.
            runtime.close()
            raise


async def _outcome(task: asyncio.Task[LoadedModel]) -> LoadedModel:
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if task.cancelled():
            raise EngineStopped("the server is stopping") from None
        raise


def info_of(entry: Entry) -> dict[str, Any]:
    """A model as the API's ModelInfo, with our own facts in `nbllama` where an adapter is laid on it."""
    model = entry.model
    adapter = _adapter_facts(entry)
    info = model_info(
        id=entry.source.id,
        display_name=_display_name(entry),
        created_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry.created)),
        max_input_tokens=model.info.n_ctx if model else None,
        thinking=model.template.supports_thinking if model else None,
    )
    return info if adapter is None else info | {"nbllama": {"adapter": adapter}}


def _display_name(entry: Entry) -> str:
    published, model = entry.source.published, entry.model
    if published is not None:
        return f"{published.name} + {published.adapter.name}" if published.adapter else published.name
    return model.info.metadata.get("general.name", entry.source.id) if model else entry.source.id


def _adapter_facts(entry: Entry) -> dict[str, Any] | None:
    return entry.source.adapter.facts() if entry.source.adapter else None


def _understand(source: ModelSource, runtime: Runtime, format: Any) -> LoadedModel:
    info = runtime.info
    control = runtime.vocabulary.control_tokens()
    given = None if format is None else from_data(format)
    template = ChatTemplate(info.chat_template or "", bos=info.bos, eos=info.eos, control_tokens=control, format=given)
    generated = GeneratedIds(runtime.vocabulary.piece, control.values())
    grammars = LazyGrammars(runtime.vocabulary, info.n_vocab)
    ids = frozenset(control.values())
    return LoadedModel(source, info, runtime.vocabulary, template, generated, grammars, ids, model_hash(source))


def _status(entry: Entry, *, is_default: bool) -> dict[str, Any]:
    info = entry.model.info if entry.model else None
    return {
        "id": entry.source.id,
        "state": entry.state,
        "load": round(entry.load, 3),
        "path": str(entry.source.path),
        "default": is_default,
        "error": entry.error,
        "n_ctx": info.n_ctx if info else None,
        "n_params": info.n_params if info else None,
        "size_bytes": info.size_bytes if info else None,
        "device": info.device if info else None,
        "build": info.build if info else None,
        "adapter": _adapter_facts(entry),
        "hint": better_than_demo() if entry.source.id == "demo" else None,
        "supports_tools": entry.model.template.supports_tools if entry.model else None,
        "supports_thinking": entry.model.template.supports_thinking if entry.model else None,
        "warnings": [*entry.model.info.warnings, *entry.model.template.warnings] if entry.model else [],
    }
