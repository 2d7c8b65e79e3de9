"""What a model tells of itself without a request."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from nbllama.answer.model_facts import format_of
from nbllama.chat.format import from_data
from nbllama.chat.template import ChatTemplate

TEMPLATE = """{%- if tools %}<|im_start|>system
{{ tools | tojson }}<|im_end|>
{% endif %}{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}{% for call in message.tool_calls or [] %}
<tool_call>
{{ {"name": call.function.name, "arguments": call.function.arguments} | tojson }}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def test_the_format_of_a_template_with_what_it_reads_back() -> None:
    template = ChatTemplate(TEMPLATE, bos="", eos="<|im_end|>", control_tokens=["<|im_start|>", "<|im_end|>"])
    model: Any = SimpleNamespace(source=SimpleNamespace(id="m"), template=template)
    told = format_of(model)

    assert told == json.loads(json.dumps(told))
    assert (told["id"], told["family"]) == ("m", template.format.family)
    assert from_data(told["format"]) == template.format
    assert told["checks"] and set(told["checks"].values()) <= {True, None}
