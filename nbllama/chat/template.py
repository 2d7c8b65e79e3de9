"""A model's chat template: requests → prompts, and what it tells about the model's answers."""

from __future__ import annotations

from collections.abc import Collection

from nbllama.chat.control_tokens import ControlTokens
from nbllama.chat.conversation import KEY, Conversation, Write, converse
from nbllama.chat.efforts import Efforts
from nbllama.chat.errors import ChatError, TemplateFailed, TemplateRefused, UnsupportedContent
from nbllama.chat.format import Format
from nbllama.chat.origins import Found, Marks, PrivateCharacters, cover, private_characters, search
from nbllama.chat.prompt import Origin, Prompt
from nbllama.chat.renderer import Renderer
from nbllama.chat.tail import tail_of
from nbllama.chat.thinking_end import thinking_end
from nbllama.chat.understanding import understand
from nbllama.wire.requests import CountTokensRequest, MessagesRequest

CHATML = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
NO_TEMPLATE = "the model has no chat template: ChatML is assumed"


class ChatTemplate:
    """The template `source` of a model, compiled and probed once; without one (empty) ChatML is assumed.

    `control_tokens` are the spellings of the model's control tokens. Thread safe. Raises ChatError for a template
    that is broken, wants too much, or cannot even render one user message.
    """

    def __init__(
        self, source: str, *, bos: str, eos: str, control_tokens: Collection[str], format: Format | None = None
    ) -> None:
        self._renderer = Renderer(source or CHATML, bos=bos, eos=eos)
        self._control = ControlTokens([*control_tokens, bos, eos])
        self._can, self.derived = understand(self._renderer, eos=eos, given=format)
        self.format = self.derived.format
        self.efforts = Efforts(self._renderer)
        self.warnings = list(self.derived.warnings)
        if not source and format is None:
            self.format, self.warnings = Format(), [NO_TEMPLATE]
        self.thinking_end = thinking_end(self._renderer, self.format)

    @property
    def supports_tools(self) -> bool:
        """Whether the template itself presents tools; without, they are presented in the system turn."""
        return self._can.tools

    @property
    def supports_thinking(self) -> bool:
        """Whether thinking can be told from text."""
        return self.format.think is not None

    def render(self, request: MessagesRequest | CountTokensRequest, *, images: bool = False) -> Prompt:
        """The prompt of a request. Raises TemplateRefused, TemplateFailed, UnsupportedContent.

        With `images` each becomes a placeholder, for inspection: no model sees it.
        """
        try:
            return _Rendering(self, request, images=images).prompt()
        except (TemplateRefused, UnsupportedContent):
            raise
        except ChatError as error:
            raise TemplateFailed(str(error)) from error


class _Rendering:
    """One request on its way through a template, rendered twice: once to be read, once with marks (see origins.py)."""

    def __init__(self, template: ChatTemplate, request: CountTokensRequest, *, images: bool) -> None:
        self._images = images
        self._template = template
        self._request = request
        self._texts: list[tuple[str, Origin]] = []
        config, thinking = request.output_config, request.thinking_enabled
        self._variables = template.efforts.variables(config.effort if config else None, thinking=thinking)
        self._converse(self._collect)
        self._input_chars = sum(len(text) for text, _ in self._texts)
        self._private = self._choose_private()
        self._marks = Marks(self._private)
        self._broken: dict[str, str] = {}

    def prompt(self) -> Prompt:
        """Breaks the spellings of control tokens, renders, mends, and notes where everything is."""
        conversation = self._converse(lambda text, _: self._break(text))
        rendered = self._render(conversation)
        begun = tail_of(self._template.format, self._mended(rendered))
        closing = self._closing(begun, conversation.prefill)
        broken = rendered + closing + conversation.prefill
        text = self._mended(broken)
        spans = cover(text, self._find(text, closing), self._template._control.occurs_in)
        broken_at = _break_positions(broken, self._private.breaker)
        segments = self._template._control.segments(text, spans, broken_at)
        return Prompt(text, spans, segments, begun + self._mended(closing + conversation.prefill))

    def _mended(self, text: str) -> str:
        return text.replace(self._private.breaker, "")

    def _converse(self, write: Write) -> Conversation:
        return converse(self._request, self._template._can, self._template.format, write, images=self._images)

    def _collect(self, text: str, origin: Origin) -> str:
        self._texts.append((text, origin))
        return text

    def _choose_private(self) -> PrivateCharacters:
        return private_characters([self._template._renderer.source, *(text for text, _ in self._texts)])

    def _break(self, text: str) -> str:
        broken = self._broken.get(text)
        if broken is None:
            broken = self._broken[text] = self._template._control.broken(text, self._private.breaker)
        return broken

    def _mark(self, text: str, origin: Origin) -> str:
        broken = self._break(text)
        return broken if origin == KEY else self._marks.around(broken, origin)

    def _render(self, conversation: Conversation) -> str:
        return self._template._renderer.render(
            conversation.messages,
            conversation.tools,
            thinking=self._request.thinking_enabled,
            input_chars=self._input_chars,
            variables=self._variables,
        )

    def _closing(self, begun: str, prefill: str) -> str:
        """A prefill is the answer itself: thinking that the template opened is closed before it, content opened."""
        format = self._template.format
        if not prefill:
            return ""
        think, content = format.think, format.content
        open_thought = think and think.open.strip() and begun.strip().endswith(think.open.strip())
        closing = f"\n{think.close}\n\n" if think and open_thought else ""
        begins_content = content and content.open not in begun and not prefill.lstrip().startswith(content.open)
        return closing + (content.open if content and begins_content else "")

    def _find(self, text: str, closing: str) -> list[Found]:
        """Where the request's texts are in `text`."""
        marked = self._converse(self._mark)
        read = self._marks.read(self._mended(self._render(marked) + closing + marked.prefill))
        if read is not None and read[0] == text:
            return read[1]
        return search(text, [(part, origin) for part, origin in self._texts if origin != KEY])


def _break_positions(text: str, breaker: str) -> set[int]:
    positions: set[int] = set()
    length = 0
    for part in text.split(breaker)[:-1]:
        length += len(part)
        positions.add(length)
    return positions
