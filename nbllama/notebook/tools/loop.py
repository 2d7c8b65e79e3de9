"""The tool loop: ask, run what was called, tell, ask again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nbllama.notebook.ask import Asking, Question
from nbllama.notebook.errors import AskError, ShortError, ToolsError
from nbllama.notebook.interrupts import Interrupts
from nbllama.notebook.phrases import counted, plural
from nbllama.notebook.short_traceback import shortened
from nbllama.notebook.tools.async_tools import AsyncTools
from nbllama.notebook.tools.calling import Call, State
from nbllama.notebook.tools.confirming import Confirmation
from nbllama.notebook.tools.run import Step, ToolRun, cell_number
from nbllama.notebook.tools.screen import AnswerScreen, StepScreen, kept_up, step_screen
from nbllama.notebook.tools.toolbox import Toolbox
from nbllama.wire.errors import ServerFault

MAX_STEPS = 8
"""Answers of the model. A small one may call the same tool for ever."""

_NOT_RUN = "This call was not run: "
_INTERRUPTED = "The user interrupted this call."
_UNASKED = "nobody could be asked"


def run_tools(
    prompt: str | Sequence[Any],
    tools: Iterable[Any],
    *,
    confirm: bool = False,
    max_steps: int = MAX_STEPS,
    model: str = "",
    system: str | None = None,
    max_tokens: int = 1024,
    temperature: float | None = None,
    thinking: bool = False,
) -> ToolRun:
    """Asks, runs the functions that the model calls, here in this kernel, and asks again until it has its answer.

    `prompt` is a text, or a list of messages, as `run.messages` of an earlier run. `tools` are annotated Python
    functions, async or not, or what the SDK's `beta_tool` made of them. With `confirm` each call waits for your yes.
    `max_steps` is how many answers the model may give. `model` empty: the server's default. `max_tokens` is for each
    answer.

    What a function raises is told to the model, which may try again. Raises ToolsError for tools that cannot be used
    and AskError if the model does not answer; these, and a KeyboardInterrupt, have what was done by then as `.run`."""
    text, earlier = (prompt, None) if isinstance(prompt, str) else ("", [_as_dict(message) for message in prompt])
    question = Question(text, model, max_tokens, temperature, system, thinking)
    return ToolLoop(question, Toolbox(tools), confirm, max_steps, earlier).run()


@dataclass
class ToolLoop:
    """One run. `messages` stand in place of the question's prompt, if there are any."""

    question: Question
    toolbox: Toolbox
    confirm: bool = False
    max_steps: int = MAX_STEPS
    messages: list[dict[str, Any]] | None = None
    screens: Callable[[], StepScreen] = step_screen
    interrupts: Interrupts = field(default_factory=Interrupts)

    def __post_init__(self) -> None:
        if self.max_steps < 1:
            raise ToolsError(f"max_steps: at least 1 is needed, not {self.max_steps}")
        messages = self.messages or [{"role": "user", "content": self.question.prompt}]
        self.result = ToolRun(list(messages))
        self._confirmation = Confirmation(self.confirm)

    def run(self) -> ToolRun:
        """To its end. Raises ToolsError, AskError, KeyboardInterrupt, with the run so far as their `run`."""
        self.result.shown_in(cell_number())
        with self.interrupts, AsyncTools() as loop:
            try:
                while not self.result.ending:
                    self._step(loop)
            except (KeyboardInterrupt, ShortError) as error:
                self.interrupts.held = True
                self.result.ending = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
                error.run = self.result  # type: ignore[union-attr]  # for whoever catches it
                raise
        return self.result

    def _step(self, loop: AsyncTools) -> None:
        step = Step(len(self.result.steps) + 1)
        self.result.steps.append(step)
        screen = self.screens()
        try:
            self._ask(step, screen)
            self._settle(step)
            if not self.result.ending:
                self._run_calls(step, screen, loop)
        finally:
            self._tell(step)
            screen.show(step, last=True)

    def _ask(self, step: Step, screen: StepScreen) -> None:
        extra = {"messages": list(self.result.messages), "tools": self.toolbox.definitions}
        question = dataclasses.replace(self.question, extra=self.question.extra | extra)
        asking = Asking(question, AnswerScreen(step, screen), view=step.answer, interrupts=self.interrupts)
        try:
            asking.run()
        except json.JSONDecodeError as error:
            raise AskError(ServerFault(f"the server sent arguments that are no JSON: {error}")) from error
        finally:
            step.trace = asking.trace
        step.calls = [
            Call(str(block["id"]), str(block["name"]), block.get("input"))
            for block in step.answer.blocks
            if block.get("type") == "tool_use"
        ]

    def _settle(self, step: Step) -> None:
        """Whether this was the last answer, and what becomes of its calls then."""
        reason = step.answer.ending
        if reason != "tool_use" or not step.calls:
            self.result.ending = reason or "end_turn"
            if step.calls:
                step.note = f"cut off ({reason}): its {plural('call', len(step.calls))} cannot be trusted to be whole"
            self._not_run(step, f"the answer was cut off ({reason}).")
        elif step.number >= self.max_steps:
            self.result.ending = "max_steps"
            step.note = f"step limit: {counted(step.number, 'answer')}, and it still calls tools"
            step.note += "; raise max_steps (--steps), or go on from run.messages"
            self._not_run(step, "the limit of steps was reached.")

    def _not_run(self, step: Step, why: str) -> None:
        for call in step.calls:
            call.end("not run", _NOT_RUN + why)

    def _run_calls(self, step: Step, screen: StepScreen, loop: AsyncTools) -> None:
        """In their order. A call may rest on what the one before it did."""
        try:
            for call in step.calls:
                self._run_call(call, step, screen, loop)
        except KeyboardInterrupt as interrupt:
            self.interrupts.held = True
            self._give_up(step, "interrupted", _INTERRUPTED, "interrupted")
            raise shortened(interrupt, _interrupted_in_tools) from None
        except ToolsError:
            self._give_up(step, "not run", _NOT_RUN + _UNASKED, _UNASKED)
            raise

    def _give_up(self, step: Step, state: State, why: str, note: str) -> None:
        step.note = note
        current, *others = [call for call in step.calls if call.state in ("waiting", "asked", "running")]
        current.tick()
        current.end(state, why)
        for call in others:
            call.end("not run", f"{_NOT_RUN}the run ended before it ({note}).")

    def _run_call(self, call: Call, step: Step, screen: StepScreen, loop: AsyncTools) -> None:
        tool = self.toolbox.find(call.name)
        if tool is None:
            call.end("error", self.toolbox.unknown(call.name))
            return screen.show(step)

        def show() -> None:
            call.tick()
            screen.show(step)

        with kept_up(show):
            if self._confirmation.wanted:
                call.state = "asked"
                # Nobody is asked about what does not stand on the screen.
                screen.show(step, now=True)
                if (refusal := self._confirmation.refusal(call)) is not None:
                    return call.end("declined", refusal)
            call.start_clock()
            show()
            call.run(tool, loop)
        screen.show(step)

    def _tell(self, step: Step) -> None:
        """The answer and its results, as messages: each call has one, whatever came between."""
        content = (step.answer.message() or {}).get("content")
        if content:
            self.result.messages.append({"role": "assistant", "content": content})
        told = {block.get("id") for block in content or ()}
        results = [call.result for call in step.calls if call.id in told]
        if results:
            self.result.messages.append({"role": "user", "content": results})


def _interrupted_in_tools(error: BaseException) -> str:
    return f"{type(error).__name__}: a tool was stopped; what was done by then is in sys.last_value.run"


def _as_dict(message: Any) -> dict[str, Any]:
    """A message as a dict, also where its content, or all of it, is the SDK's objects."""
    if hasattr(message, "to_dict"):
        message = message.to_dict()
        return {"role": message["role"], "content": message["content"]}
    content = message["content"]
    if not isinstance(content, str):
        content = [block.to_dict() if hasattr(block, "to_dict") else block for block in content]
    return {"role": message["role"], "content": content}
