"""What a request needs from when it goes to the engine until it is answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nbllama.answer.block_writer import BlockWriter
from nbllama.answer.cache_usage import Kept, kept_tokens
from nbllama.answer.forking import NOTHING, Begun
from nbllama.answer.model_catalog import LoadedModel
from nbllama.answer.tokenise import Encoded
from nbllama.answer.wishes import thinking_of
from nbllama.chat.guides import Guide
from nbllama.chat.parser import Step, StreamParser
from nbllama.chat.prompt import Prompt
from nbllama.chat.stop_sequences import StopMatcher
from nbllama.wire.content import ToolUseBlock
from nbllama.wire.requests import MessagesRequest


@dataclass(frozen=True, slots=True)
class Accepted:
    """A request that the engine has: the model that works on it, its prompt, and the parser of its answer."""

    model: LoadedModel
    prompt: Prompt
    encoded: Encoded
    stops: StopMatcher
    parser: StreamParser
    writer: BlockWriter
    guide: Guide | None
    kept: Kept
    begun: Begun = NOTHING

    @property
    def ids(self) -> tuple[int, ...]:
        """What the engine reads before it writes."""
        return (*self.encoded.ids, *self.begun.ids)

    @property
    def over(self) -> bool:
        """Whether nothing that the engine may still say belongs to the answer."""
        return self.stops.matched is not None or self.writer.over

    def remember(self, client: str, ids: list[int]) -> None:
        """Keeps which ids were generated: the next turn repeats this answer, and must find it in the cells."""
        encoded = self.encoded
        self.model.generated.remember(client, encoded.ids, encoded.tail_start, encoded.tail, ids)


def accept(
    request: MessagesRequest,
    model: LoadedModel,
    prompt: Prompt,
    encoded: Encoded,
    guide: Guide | None,
    *,
    sign: Callable[[bytes], str],
    explain: Callable[[Step], None] | None,
    begun: Begun = NOTHING,
) -> Accepted:
    """`sign` signs thinking, `explain` is told the parser's steps; `begun` is there of the answer already."""
    choice = request.tool_choice
    offered = [] if choice is not None and choice.type == "none" else request.tools
    tools = {tool.name: tool.input_schema for tool in offered}
    return Accepted(
        model=model,
        prompt=prompt,
        encoded=encoded,
        stops=StopMatcher(request.stop_sequences),
        parser=StreamParser(model.template.format, prompt.tail, tools, explain=explain),
        writer=BlockWriter(
            thinking_of(request),
            one_call=bool(choice and choice.disable_parallel_tool_use),
            taken=_call_ids(request),
            sign=sign,
        ),
        guide=guide,
        kept=kept_tokens(request.breakpoints, prompt, encoded.ids, model.vocabulary.piece),
        begun=begun,
    )


def _call_ids(request: MessagesRequest) -> list[str]:
    """Those of the conversation so far."""
    return [block.id for message in request.messages for block in message.content if isinstance(block, ToolUseBlock)]
