"""The root of the error tree.

    NbllamaError
    ├── ApiError           wire/errors.py       what a client is told: an Anthropic type and a status
    ├── TraceFileError     wire/trace_file.py   a file that is no trace, or a later version's
    ├── CassetteError      wire/cassette_file.py   a file that is no cassette, or one that cannot be written
    ├── ChatError          chat/errors.py       a template refuses or is not understood
    ├── EngineError        engine/errors.py     the engine's own: queue full, prompt too long, cells, decode
    ├── ModelError         answer/published_models.py  a reference that names no usable model
    ├── WorkerError        worker/errors.py     no worker, or not one to talk to
    └── SettingsError      worker/errors.py     a setting with a bad value, named

Each folder raises its own branch. `answer/failures.py` is the one border where the others become an `ApiError`.
"""


class NbllamaError(Exception):
    """Any error that nbllama raises on purpose. Its text is one sentence for the user."""
