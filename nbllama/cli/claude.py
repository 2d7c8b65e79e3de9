"""`nbllama claude`: Claude Code on the local model. A TCP door is open for the time it runs."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbllama.errors import NbllamaError
from nbllama.notebook import claude_code

INSTALL = (
    "Claude Code is not installed; run: pip install claude-agent-sdk (or: npm install -g @anthropic-ai/claude-code)"
)

PASSES_ON = True
"""What this command does not know itself is for Claude Code."""

_SAMPLE = "Read the file, change the function so that its test passes, and say what you did. "
_PROBE_TOKENS = 512


class ClaudeError(NbllamaError):
    """Claude Code cannot be started so that it would work."""


@dataclass(frozen=True)
class Facts:
    """What is known before the start. Prompt sizes in tokens of this model, speed in tokens a second."""

    model: str
    device: str
    n_ctx: int
    full_prompt: int
    bare_prompt: int
    speed: float

    def prompt(self, bare: bool) -> int:
        return self.bare_prompt if bare else self.full_prompt


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "nbllama claude [--model REF] [--ctx N] [--print-env FORM] [what Claude Code takes ...]"
    parser.add_argument("--model", metavar="REF", help="demo, smollm2 or a .gguf file (default: the worker's setting)")
    parser.add_argument("--ctx", type=int, metavar="N", help="context in tokens, if the model is not loaded yet")
    parser.add_argument("--bare", action="store_true", help="the small prompt (it is taken if the context is small)")
    print_help = "only print the variables: for a shell (sh, powershell), or as a settings file (settings)"
    parser.add_argument("--print-env", choices=claude_code.FORMS, help=print_help)
    url_help = "with --print-env: the door that Claude Code will use (default: that of `nbllama serve`)"
    parser.add_argument("--base-url", default="http://127.0.0.1:8010", metavar="URL", help=url_help)


def run(args: argparse.Namespace) -> int:
    program = None if args.print_env else _program()
    return asyncio.run(_run(args, program))


def _program() -> str:
    """Claude Code: on the path, or the one that the Python SDK brings. Raises ClaudeError."""
    if found := shutil.which("claude"):
        return found
    spec = importlib.util.find_spec("claude_agent_sdk")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for name in ("claude", "claude.exe"):
            if (path := Path(folder, "_bundled", name)).is_file():
                return str(path)
    raise ClaudeError(INSTALL)


async def _run(args: argparse.Namespace, program: str | None) -> int:
    from nbllama.cli.serve import absolute_reference
    from nbllama.worker import api_key, connection
    from nbllama.worker.link import WorkerLink

    reference = absolute_reference(args.model)
    before = await asyncio.to_thread(connection.find)
    link = WorkerLink(lambda: connection.ensure(model=reference, ctx=args.ctx, on_wait=_say), kind="serve")
    endpoint = None
    try:
        endpoint = await link.endpoint()
        facts = await asyncio.to_thread(_facts, endpoint, reference, args.ctx)
        # On a Hub there is no key of ours: one for this run only, which nobody else sees.
        key = secrets.token_urlsafe(32) if api_key.on_a_hub() else api_key.ensure_key()
        if program is None:
            print(_printed(args, facts))
            return 0
        # Not the id: a worker that is started after this one's death has not heard of it.
        link.default_model = reference
        return await _claude(program, args, facts, key, link)
    finally:
        await link.close()
        if endpoint is not None and (before is None or before.pid != endpoint.pid):
            from nbllama.cli.serve import end_if_alone

            await asyncio.to_thread(end_if_alone, endpoint)


def _printed(args: argparse.Namespace, facts: Facts) -> str:
    from nbllama.worker import api_key

    key = api_key.ensure_key()
    return claude_code.written(
        claude_code.environment(args.base_url.rstrip("/"), key, facts.model, facts.n_ctx), args.print_env
    )


async def _claude(program: str, args: argparse.Namespace, facts: Facts, key: str, link: Any) -> int:
    from tornado.netutil import bind_sockets

    from nbllama.worker import api_key
    from nbllama.worker.door import Access, new_door

    bare = args.bare or "--bare" in args.passed_on or claude_code.wants_bare(facts.n_ctx, facts.full_prompt)
    for line in forecast(facts, bare):
        _say(line)
    if facts.prompt(bare) + claude_code.LEAST_ROOM > facts.n_ctx:
        raise ClaudeError(too_small(facts, bare))
    opens = (lambda keys: api_key.matches(keys, key)) if api_key.on_a_hub() else api_key.opens
    # Nobody has the door's own token: what is not the API stays shut.
    server = new_door(link, Access(secrets.token_urlsafe(32), key_opens=opens))
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    try:
        url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
        variables = claude_code.environment(url, key, facts.model, facts.n_ctx)
        kept = {name: value for name, value in os.environ.items() if name not in claude_code.FOREIGN}
        arguments = [*(["--bare"] if bare and "--bare" not in args.passed_on else []), *args.passed_on]
        return await asyncio.to_thread(_child, [program, *arguments], kept | variables, _on_sigterm())
    finally:
        server.stop()
        await server.close_all_connections()


def _on_sigterm() -> Callable[[subprocess.Popen[bytes]], None]:
    """Ctrl-C is Claude Code's, which shares our terminal; SIGTERM is handed on to it."""
    children: list[subprocess.Popen[bytes]] = []
    signal.signal(signal.SIGINT, lambda *_: None)

    def end(*_: object) -> None:
        for child in children:
            child.terminate()

    signal.signal(signal.SIGTERM, end)
    return children.append


def _child(command: list[str], env: dict[str, str], started: Callable[[subprocess.Popen[bytes]], None]) -> int:
    with subprocess.Popen(command, env=env) as child:
        started(child)
        code = child.wait()
    return 128 - code if code < 0 else code


def forecast(facts: Facts, bare: bool) -> list[str]:
    """What is told before the start, line by line."""
    size, seconds = facts.prompt(bare), facts.prompt(bare) / facts.speed
    form = " (--bare: the context is too small for its full prompt)" if bare and facts.full_prompt > 0 else ""
    return [
        f"nbllama: Claude Code on {facts.model}, {facts.device}, context {facts.n_ctx:,} tokens{form}",
        f"nbllama: its prompt is about {size:,} tokens, read at {facts.speed:,.0f} a second: "
        f"the first word comes after about {seconds:,.0f} s, later ones sooner (the prompt is kept)",
    ]


def too_small(facts: Facts, bare: bool) -> str:
    least = facts.prompt(bare) + claude_code.ROOM_FOR_WORK
    return (
        f"{facts.model} cannot hold Claude Code's prompt: about {facts.prompt(bare):,} of {facts.n_ctx:,} tokens; "
        f"end the worker (nbllama stop) and try --ctx {least}, or another model with --model"
    )


def _facts(endpoint: Any, reference: str | None, ctx: int | None) -> Facts:
    from nbllama.cli.serve import load_model
    from nbllama.worker import connection

    model = load_model(endpoint, reference, ctx)
    models = connection.request_json(endpoint, "GET", "/nbllama/status")["models"]
    row = next(row for row in models if row["id"] == model)
    sample = connection.request_json(endpoint, "POST", "/nbllama/tokenize", {"text": _SAMPLE * 8, "model": model})
    tokens_a_character = len(sample["prompt_ids"]) / len(_SAMPLE * 8)
    n_ctx = int(row["n_ctx"])
    speed = _prefill_speed(endpoint, model, tokens_a_character, min(_PROBE_TOKENS, n_ctx // 4))
    return Facts(
        model=model,
        device=row.get("device") or "device unknown",
        n_ctx=n_ctx,
        full_prompt=round(claude_code.FULL_PROMPT_CHARACTERS * tokens_a_character),
        bare_prompt=round(claude_code.BARE_PROMPT_CHARACTERS * tokens_a_character),
        speed=speed,
    )


def _prefill_speed(endpoint: Any, model: str, tokens_a_character: float, n_tokens: int) -> float:
    """Tokens a second, of a prompt that no cache knows. `max_tokens` 0 reads it and answers nothing."""
    from nbllama.worker import connection

    text = secrets.token_hex(8) + " " + _SAMPLE * max(1, round(n_tokens / tokens_a_character / len(_SAMPLE)))
    body = {"model": model, "max_tokens": 0, "messages": [{"role": "user", "content": text}]}
    begun = time.monotonic()
    usage = connection.request_json(endpoint, "POST", "/v1/messages", body, timeout=600)["usage"]
    return float(max(1, usage["input_tokens"]) / max(1e-6, time.monotonic() - begun))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
