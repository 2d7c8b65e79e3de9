"""The worker's settings: Jupyter's configuration files, then NBLLAMA_* variables, then flags; the last one wins.

The worker reads the files itself, so that an admin's file holds whoever started it. A value that cannot be used is an
error that names it, never ignored.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_config_path
from traitlets.config import Config
from traitlets.config.loader import ConfigFileNotFound, JSONFileConfigLoader, PyFileConfigLoader

from nbllama.worker.errors import SettingsError

CONFIG_NAME = "jupyter_nbllama_config"
SECTION = "NbllamaApp"


@dataclass(frozen=True)
class Settings:
    """`ctx` in tokens, None = the model's own choice; `idle_exit` and `idle_unload` in seconds, None = never."""

    model: str = "demo"
    ctx: int | None = None
    threads: int | None = None
    idle_exit: float | None = 60.0
    idle_unload: float | None = 3600.0
    transport: str = "socket"


def load_settings(env: Mapping[str, str], argv: Sequence[str], config_path: Sequence[str] | None = None) -> Settings:
    """The settings of this process. `config_path`: folders, the most important first; None = Jupyter's.

    Raises SettingsError, naming the setting and where its value was found."""
    path = jupyter_config_path() if config_path is None else config_path
    values = _from_files(path) | _from_environment(env) | _from_flags(argv)
    return Settings(**values)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("not a text")
    return value


def _count(value: Any) -> int:
    """A positive whole number, also as text."""
    if isinstance(value, (bool, float)):
        raise ValueError("not a whole number")
    number = int(value)
    if number < 1:
        raise ValueError("not above 0")
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


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "model": _text,
    "ctx": _count,
    "threads": _count,
    "idle_exit": _seconds,
    "idle_unload": _seconds,
    "transport": _transport,
}


def _checked(name: str, value: Any, origin: str) -> Any:
    try:
        return _CHECKS[name](value)
    except (ValueError, TypeError) as error:
        raise SettingsError(f"{origin}: {value!r} cannot be used for {name}: {error}") from error


def _from_files(path: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for folder in reversed(path):
        for loader in (PyFileConfigLoader, JSONFileConfigLoader):
            file = Path(folder) / f"{CONFIG_NAME}.{'py' if loader is PyFileConfigLoader else 'json'}"
            values |= _from_section(_load(loader, file), str(file))
    return values


def _load(loader: type[PyFileConfigLoader | JSONFileConfigLoader], file: Path) -> Config:
    try:
        config: Config = loader(file.name, path=str(file.parent)).load_config()
    except ConfigFileNotFound:
        return Config()
    except Exception as error:  # a configuration file is code: anything may come out of it
        raise SettingsError(f"{file} cannot be read: {type(error).__name__}: {error}") from error
    return config


def _from_section(config: Config, origin: str) -> dict[str, Any]:
    # The section also holds what belongs to the doors (api_prefix …): only the worker's own is looked at.
    section = config.get(SECTION, {})
    found = {name: section[name] for name in _CHECKS if name in section and section[name] is not None}
    return {name: _checked(name, value, f"c.{SECTION}.{name} in {origin}") for name, value in found.items()}


def _from_environment(env: Mapping[str, str]) -> dict[str, Any]:
    found = {name: env[variable] for name in _CHECKS if env.get(variable := f"NBLLAMA_{name.upper()}")}
    return {name: _checked(name, value, f"NBLLAMA_{name.upper()}") for name, value in found.items()}


def _from_flags(argv: Sequence[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="nbllama.worker", allow_abbrev=False)
    parser.add_argument("--model")
    parser.add_argument("--ctx")
    found = {name: value for name, value in vars(parser.parse_args(argv)).items() if value is not None}
    return {name: _checked(name, value, f"--{name}") for name, value in found.items()}
