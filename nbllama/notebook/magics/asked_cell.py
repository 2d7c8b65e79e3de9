"""What a `%%llama` cell does around its answer: what goes along, the chat, the variable, the new cell."""

from __future__ import annotations

from dataclasses import dataclass, replace

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from nbllama.errors import NbllamaError
from nbllama.notebook.ask import Asking, Question
from nbllama.notebook.display import NotebookScreen, Screen, TerminalScreen, in_terminal, say
from nbllama.notebook.errors import AskError
from nbllama.notebook.kernel_link import link
from nbllama.notebook.magics import going_along
from nbllama.notebook.magics.chat_turn import ChatTurn
from nbllama.notebook.magics.code_cell import cell_of
from nbllama.notebook.magics.conversation import conversations
from nbllama.notebook.magics.dataframe_prompt import described
from nbllama.notebook.magics.token_count import count_tokens
from nbllama.notebook.near import near_variable
from nbllama.notebook.served_models import model_of
from nbllama.notebook.short_traceback import shortened
from nbllama.notebook.trace import as_message
from nbllama.worker.connection import Endpoint


@dataclass(frozen=True)
class Wanted:
    """What is wanted beside the question itself. `model` is the default, `budget` in tokens; empty: not wanted."""

    model: str = ""
    output: str | None = None
    raw: bool = False
    chat: str = ""
    drop: bool = False
    code: bool = False
    include: tuple[str, ...] = ()
    budget: int = 400


class AskedCell:
    """One cell. Raises AskError and UsageError; a KeyboardInterrupt passes."""

    def __init__(self, shell: InteractiveShell, question: Question, wanted: Wanted) -> None:
        self._shell, self._wanted = shell, wanted
        self._chat: ChatTurn | None = None
        self._model = ""
        screen: Screen = TerminalScreen() if in_terminal() else NotebookScreen(raw=wanted.raw)
        self._asking = Asking(question, screen)

    def run(self) -> None:
        asking = self._asking
        with asking.interrupts:
            try:
                self._prepared()
                asking.run()
            except AskError as error:
                raise (self._chat.refusal(error) if self._chat else error) from error.__cause__
            finally:
                asking.interrupts.held = True
                message = asking.view.message()
                if self._wanted.output is not None and message is not None:
                    kept = {self._wanted.output: as_message(message)}
                    self._shell.push(kept)  # type: ignore[no-untyped-call]  # IPython
            if self._wanted.code:
                self._new_cell()

    def _prepared(self) -> None:
        """Everything that is to be known before the model is asked."""
        try:
            self._prepare()
        except KeyboardInterrupt as interrupt:
            self._asking.interrupts.held = True
            raise shortened(interrupt, lambda _: "KeyboardInterrupt: nothing had been asked yet") from None
        except NbllamaError as error:
            raise AskError(error) from error

    def _prepare(self) -> None:
        wanted, asking = self._wanted, self._asking
        chat = conversations.begin(wanted.chat) if wanted.chat else None
        model = asking.question.model or (chat.model if chat else "") or wanted.model
        asking.question = replace(asking.question, model=model)
        if wanted.include:
            frames = [self._described(name) for name in wanted.include]
            asking.question = replace(asking.question, prompt="\n\n".join([*frames, str(asking.question.prompt)]))
        if chat is not None:
            self._chat = ChatTurn.of(chat, asking.question)
            if wanted.drop:
                self._chat.leave_out(self._endpoint, say)
            asking.question, asking.on_end = self._chat.question, self._chat.end

    def _described(self, name: str) -> str:
        """What goes along of a DataFrame; shown."""
        variables = self._shell.user_ns
        if name not in variables:
            fix = near_variable(name, variables) or "make it in a cell above"
            raise UsageError(f"-i {name}: there is no variable {name}\n→ {fix}")
        budget = self._wanted.budget
        text, n_tokens = described(name, variables[name], budget, self._count)
        going_along.show(f"goes along with the prompt: {name}, {n_tokens:,} of at most {budget:,} tokens", text)
        return text

    def _count(self, text: str) -> int:
        if not self._model:
            self._model = model_of(self._endpoint(), self._asking.question.model)
        return count_tokens(self._endpoint(), self._model, text)

    def _endpoint(self) -> Endpoint:
        return link.endpoint(on_wait=self._asking.wait)

    def _new_cell(self) -> None:
        view = self._asking.view
        cell = cell_of("\n\n".join(view.texts), cut_off=view.ending == "max_tokens")
        if cell is None:
            print("no new cell: there is no block of Python code in the answer")
        else:
            self._shell.set_next_input(cell, replace=False)
