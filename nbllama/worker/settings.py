"""The worker's settings: Jupyter's configuration files, then NBLLAMA_* variables, then flags; the last one wins.

The worker reads the files itself, so that an admin's file holds whoever started it: what a file of the system names in
`c.NbllamaApp.locked` has the system's value, whatever comes later. A value that cannot be used is an error that names
it, never ignored.
"""

from __future__ import annotations

import argparse
import difflib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_core import paths
from traitlets.config import Config
from traitlets.config.loader import ConfigFileNotFound, JSONFileConfigLoader, PyFileConfigLoader

from nbllama.wire.records import MAX_ALTERNATIVES
from nbllama.worker.errors import SettingsError

CONFIG_NAME = "jupyter_nbllama_config"
SECTION = "NbllamaApp"
LOCKED = "locked"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """`ctx` in tokens, None = the model's own choice; `cache_ram` in MiB, None = by the machine's memory.

    `model_aliases`: names of models, or patterns with `*` → references. `lenient` takes what only the real API refuses.

    `idle_exit` and `idle_unload` in seconds, None = never.

    `traces`: how many are kept, 0 = none. `probabilities`: of how many alternatives of each token they tell the
    probability where a request does not say.

    `formats`: how models write calls and thinking, by their ids, in place of what is derived (docs/formats.md).
    `locked` are the names of the settings that an admin's file holds."""

    model: str = "demo"
    ctx: int | None = None
    threads: int | None = None
    cache_ram: int | None = None
    idle_exit: float | None = 60.0
    idle_unload: float | None = 3600.0
    transport: str = "socket"
    model_aliases: Mapping[str, str] | None = None
    lenient: bool = False
    formats: Mapping[str, Any] | None = None
    traces: int = 100
    trace_bytes: int = 64 << 20
    probabilities: int = 0
    locked: frozenset[str] = frozenset()


def load_settings(
    env: Mapping[str, str],
    argv: Sequence[str],
    config_path: Sequence[str] | None = None,
    system_path: Sequence[str] | None = None,
) -> Settings:
    """The settings of this process. `config_path`: folders, the most important first; None = Jupyter's.

    `system_path`: those that belong to the system, so that their files may lock a setting; None = Jupyter's.
    Raises SettingsError, naming the setting and where its value was found."""
    path = paths.jupyter_config_path() if config_path is None else config_path
    # Looked at in any case: JUPYTER_NO_CONFIG must not open what the admin has locked.
    system = paths.SYSTEM_CONFIG_PATH if system_path is None else system_path
    _refuse_locks([folder for folder in path if folder not in system])
    values = _from_files(path) | _from_environment(env) | _from_flags(argv)
    return Settings(**_held(values, system))


def is_set(name: str, env: Mapping[str, str]) -> bool:
    """Whether a file or a variable names this setting, so that nobody else should choose. Raises SettingsError."""
    path = [*paths.jupyter_config_path(), *paths.SYSTEM_CONFIG_PATH]
    return name in _from_files(path) | _from_environment(env)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("not a text")
    return value


def _count(value: Any) -> int:
    """A positive whole number, also as text."""
    number = _count_or_zero(value)
    if number < 1:
        raise ValueError("not above 0")
    return number


def _count_or_zero(value: Any) -> int:
    """A whole number that may be 0, also as text."""
    if isinstance(value, (bool, float)):
        raise ValueError("not a whole number")
    number = int(value)
    if number < 0:
        raise ValueError("below 0")
    return number


def _alternatives(value: Any) -> int:
    number = _count_or_zero(value)
    if number > MAX_ALTERNATIVES:
        raise ValueError(f"above {MAX_ALTERNATIVES}")
    return number


def _mebibytes(value: Any) -> int:
    if isinstance(value, (bool, float)):
        raise ValueError("not a whole number of MiB")
    number = int(value)
    if number < 0:
        raise ValueError("below 0")
    return number


def _seconds(value: Any) -> float | None:
    if isinstance(value, bool):
        raise ValueError("not a number of seconds")
    number = float(value)
    if number == -1:
        return None
    # `not >=` also refuses nan.
    if not number >= 0:
        raise ValueError("neither a number of seconds nor -1")
    return number


def _transport(value: Any) -> str:
    if value not in ("socket", "tcp"):
        raise ValueError('neither "socket" nor "tcp"')
    return str(value)


def _aliases(value: Any) -> dict[str, str]:
    """A mapping, or as text `NAME=REFERENCE,NAME=REFERENCE`."""
    if isinstance(value, str):
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        value = {name.strip(): ref.strip() for name, _, ref in pairs}
    if not isinstance(value, Mapping):
        raise ValueError("neither a mapping nor NAME=REFERENCE,…")
    for name, ref in value.items():
        if not (isinstance(name, str) and isinstance(ref, str) and name and ref):
            raise ValueError("a name or a reference is missing")
    return dict(value)


def _yes_or_no(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() not in ("1", "true", "yes", "0", "false", "no"):
        raise ValueError("neither true nor false")
    return str(value).lower() in ("1", "true", "yes")


def _formats(value: Any) -> dict[str, Any]:
    """An object of objects, also as JSON. What they hold is checked when the model is loaded."""
    value = json.loads(value) if isinstance(value, str) else value
    if not isinstance(value, Mapping) or not all(isinstance(part, Mapping) for part in value.values()):
        raise ValueError("not an object with a format for each model id")
    return {str(name): _plain(part) for name, part in value.items()}


def _plain(value: Any) -> Any:
    return {key: _plain(part) for key, part in value.items()} if isinstance(value, Mapping) else value


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "model": _text,
    "ctx": _count,
    "threads": _count,
    "cache_ram": _mebibytes,
    "idle_exit": _seconds,
    "idle_unload": _seconds,
    "transport": _transport,
    "model_aliases": _aliases,
    "lenient": _yes_or_no,
    "formats": _formats,
    "traces": _count_or_zero,
    "trace_bytes": _count,
    "probabilities": _alternatives,
}


def _checked(name: str, value: Any, origin: str) -> Any:
    try:
        return _CHECKS[name](value)
    except (ValueError, TypeError) as error:
        raise SettingsError(f"{origin}: {value!r} cannot be used for {name}: {error}") from error


def _held(values: dict[str, Any], system: Sequence[str]) -> dict[str, Any]:
    """`values`, with the system's own for each setting that one of its files locks; its default where none is set."""
    locked = frozenset(name for origin, section in _sections(system) for name in _locks(section, origin))
    held = {name: value for name, value in _from_files(system).items() if name in locked}
    for name in sorted(locked):
        if name in values and values[name] != held.get(name, getattr(Settings, name)):
            log.warning("%s: %r is not used, the system's configuration locks it", name, values[name])
    return {name: value for name, value in values.items() if name not in locked} | held | {"locked": locked}


def _refuse_locks(path: Sequence[str]) -> None:
    for origin, section in _sections(path):
        if LOCKED in section:
            raise SettingsError(f"c.{SECTION}.{LOCKED} in {origin}: only a file of the system's can lock a setting")


def _locks(section: Config, origin: str) -> list[str]:
    names = section.get(LOCKED, [])
    if not isinstance(names, (list, tuple, set)):
        raise SettingsError(f"c.{SECTION}.{LOCKED} in {origin}: {names!r} is not a list of names")
    for name in names:
        if name not in _CHECKS:
            raise SettingsError(f"c.{SECTION}.{LOCKED} in {origin}: {name!r} is none of {', '.join(_CHECKS)}")
    return list(names)


def _from_files(path: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for origin, section in _sections(path):
        values |= _from_section(section, origin)
    return values


def _sections(path: Sequence[str]) -> Iterator[tuple[str, Config]]:
    """Our section of each file and the file's name, the most important last."""
    for folder in reversed(path):
        for loader in (PyFileConfigLoader, JSONFileConfigLoader):
            file = Path(folder) / f"{CONFIG_NAME}.{'py' if loader is PyFileConfigLoader else 'json'}"
            section = _load(loader, file).get(SECTION, Config())
            if not isinstance(section, Mapping):
                raise SettingsError(f"c.{SECTION} in {file}: {section!r} is not a set of settings")
            yield str(file), Config(section)


def _load(loader: type[PyFileConfigLoader | JSONFileConfigLoader], file: Path) -> Config:
    try:
        config: Config = loader(file.name, path=str(file.parent)).load_config()
    except ConfigFileNotFound:
        return Config()
    except Exception as error:  # a configuration file is code: anything may come out of it
        raise SettingsError(f"{file} cannot be read: {type(error).__name__}: {error}") from error
    return config


def _from_section(section: Config, origin: str) -> dict[str, Any]:
    # The section also holds what belongs to the doors (api_prefix …): only the worker's own is looked at.
    _refuse_misspelt(section, origin)
    found = {name: section[name] for name in _CHECKS if name in section and section[name] is not None}
    return {name: _checked(name, value, f"c.{SECTION}.{name} in {origin}") for name, value in found.items()}


def _refuse_misspelt(section: Config, origin: str) -> None:
    for name in section:
        near = difflib.get_close_matches(name, [*_CHECKS, LOCKED], n=1, cutoff=0.8)
        if near and near != [name]:
            raise SettingsError(f"c.{SECTION}.{name} in {origin} is no setting; did you mean {near[0]}?")


def _from_environment(env: Mapping[str, str]) -> dict[str, Any]:
    found = {name: env[variable] for name in _CHECKS if env.get(variable := f"NBLLAMA_{name.upper()}")}
    return {name: _checked(name, value, f"NBLLAMA_{name.upper()}") for name, value in found.items()}


def _from_flags(argv: Sequence[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="nbllama.worker", allow_abbrev=False)
    parser.add_argument("--model")
    parser.add_argument("--ctx")
    found = {name: value for name, value in vars(parser.parse_args(argv)).items() if value is not None}
    return {name: _checked(name, value, f"--{name}") for name, value in found.items()}
