"""Requests in, recorded answers out: what `%llama record`, `%llama replay` and `nbllama serve --replay` do.

    same_request.py   which requests are the same, and what differs between two
    masked.py         keys, paths and e-mail addresses leave a recording
    tape.py           a cassette that is played: which recording answers a request
    played.py         a recording → events, a Message, an error, a trace
    http_server.py    the standard library's HTTP server, for one user of one process
    player.py         speaks as a worker, out of a tape
    recorder.py       stands before a server and listens
    recorded.py       what it heard → a recording
    recording.py      the file that is being written

A kernel uses them in its own process: nothing of Tornado, llama_cpp or pandas is imported.
"""
