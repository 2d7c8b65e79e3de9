"""What can go wrong between messages and prompt."""

from __future__ import annotations

from nbllama.errors import NbllamaError


class ChatError(NbllamaError):
    """A template is broken, is not understood, or wants more time or room than any real template needs."""


class TemplateRefused(ChatError):
    """The template itself refuses this conversation; the text is the template's own."""


class UnsupportedContent(ChatError):
    """The request holds content that this model cannot be shown; the text names what is missing."""


class TemplateFailed(ChatError):
    """The template broke on this conversation, or would take too long for it; the text says how."""


class SchemaRefused(ChatError):
    """A JSON schema that no grammar can follow; the text names the place and the keyword."""
