"""What goes wrong around the worker process, seen from those who start it or talk to it.

NbllamaError
├── WorkerError      no worker, none could be started, or it is not one to talk to
│   └── WorkerDied   it went away in the middle of an answer
└── SettingsError    a setting with a bad value, named
"""

from __future__ import annotations

from nbllama.errors import NbllamaError


class WorkerError(NbllamaError):
    """There is no worker to talk to; the text says why, with the end of its log where that helps."""


class WorkerDied(WorkerError):
    """The worker went away before the answer had ended. The next request starts a new one."""


class SettingsError(NbllamaError):
    """A setting has a value that cannot be used. The text names the setting and where it was found."""
