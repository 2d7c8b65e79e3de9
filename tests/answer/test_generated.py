"""The ids of a prompt: those that were generated where a text was, and always the same text as the template wrote."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from nbllama.answer.generated import Context, GeneratedIds
from nbllama.answer.model_sources import resolve
from nbllama.answer.tokenise import Encoded, prompt_ids
from nbllama.chat.prompt import Prompt, Segment
from nbllama.chat.template import CHATML, ChatTemplate
from nbllama.engine.runtime import Vocabulary
from nbllama.engine.scripted_runtime import ScriptedVocabulary
from nbllama.wire.requests import messages_request

TAIL = "assistant\n"


class Spaced(ScriptedVocabulary):
    """Like SentencePiece: each text begins with a space that it does not have."""

    def tokenize(self, text: str, *, parse_control: bool) -> list[int]:
        return super().tokenize(text if parse_control else f" {text}", parse_control=parse_control)


def bytewise(text: str) -> list[int]:
    """A spelling that no tokenizer gives: a token a byte, as `ScriptedVocabulary` and its kin have them."""
    return list(text.encode())


def memory(vocabulary: Vocabulary, **bounds: int) -> GeneratedIds:
    return GeneratedIds(vocabulary.piece, vocabulary.control_tokens().values(), **bounds)


def prompt(*texts: str) -> Prompt:
    """Texts and, where they spell one, control tokens."""
    segments = tuple(Segment(text, text in ("<|im_start|>", "<|im_end|>")) for text in texts)
    return Prompt("".join(texts), (), segments, "")


def asked(vocabulary: Vocabulary, generated: GeneratedIds, *, client: str = "me") -> Encoded:
    return prompt_ids(prompt("<|im_start|>", "user\nhello", "<|im_end|>", TAIL), vocabulary, generated, client)


def next_turn(vocabulary: Vocabulary, generated: GeneratedIds, answer: str, *, client: str = "me") -> list[int]:
    segments = prompt("<|im_start|>", "user\nhello", "<|im_end|>", f"{TAIL}{answer}", "<|im_end|>")
    return prompt_ids(segments, vocabulary, generated, client).ids


def answered(
    vocabulary: Vocabulary, answer: str, generated: GeneratedIds | None = None, *, client: str = "me"
) -> tuple[GeneratedIds, list[int]]:
    """A memory of one answer, spelled byte by byte, and everything that lies in the cells after it."""
    generated = generated or memory(vocabulary)
    encoded = asked(vocabulary, generated, client=client)
    generated.remember(client, encoded.ids, encoded.tail_start, encoded.tail, bytewise(answer))
    return generated, encoded.ids + bytewise(answer)


def text_of(vocabulary: Vocabulary, ids: list[int]) -> str:
    return b"".join(map(vocabulary.piece, ids)).decode()


def shared(a: list[int], b: list[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def test_an_answer_has_the_ids_that_it_was_generated_with() -> None:
    vocabulary = ScriptedVocabulary()
    generated, cells = answered(vocabulary, "It is 18 degrees.")

    ids = next_turn(vocabulary, generated, "It is 18 degrees.")

    assert ids[: len(cells)] == cells
    assert len(ids) == len(cells) + 1
    assert next_turn(vocabulary, memory(vocabulary), "It is 18 degrees.")[: len(cells)] != cells


def test_white_space_that_the_template_trims_is_cut_off() -> None:
    vocabulary = ScriptedVocabulary()
    generated, cells = answered(vocabulary, "It is warm. \n")

    ids = next_turn(vocabulary, generated, "It is warm.")

    assert ids[: len(cells) - 2] == cells[:-2]
    assert len(ids) == len(cells) - 2 + 1


def test_an_answer_that_differs_by_a_character_is_the_other_text_and_keeps_what_is_before_it() -> None:
    vocabulary = ScriptedVocabulary()
    generated, cells = answered(vocabulary, "the weather in Paris is fine")

    ids = next_turn(vocabulary, generated, "the weather in Basel is fine")

    assert text_of(vocabulary, ids).endswith("the weather in Basel is fine<|im_end|>")
    assert shared(ids, cells) == len(cells) - len("Paris is fine")


def test_a_text_that_only_begins_like_an_answer_keeps_its_ids_when_a_nearer_one_comes() -> None:
    vocabulary = ScriptedVocabulary()
    generated, _ = answered(vocabulary, "the weather is fine")
    edited = next_turn(vocabulary, generated, "the weather was wet")

    answered(vocabulary, "the weather was well", generated)

    assert next_turn(vocabulary, generated, "the weather was wet") == edited


def test_a_prefill_goes_on_in_the_same_ids() -> None:
    vocabulary = ScriptedVocabulary()
    generated = memory(vocabulary)
    encoded = prompt_ids(prompt("<|im_start|>", f"{TAIL}The answer"), vocabulary, generated, "me")
    generated.remember("me", encoded.ids, encoded.tail_start, encoded.tail, bytewise(" is 42"))

    ids = prompt_ids(prompt("<|im_start|>", f"{TAIL}The answer is 42"), vocabulary, generated, "me").ids

    assert ids == encoded.ids + bytewise(" is 42")


def test_control_tokens_within_an_answer_stand_between_its_texts() -> None:
    vocabulary = ScriptedVocabulary()
    generated = memory(vocabulary)
    encoded = asked(vocabulary, generated)
    control = vocabulary.control_tokens()["<|im_start|>"]
    output = [*bytewise("one"), control, *bytewise("two")]
    generated.remember("me", encoded.ids, encoded.tail_start, encoded.tail, output)

    start = ("<|im_start|>", "user\nhello", "<|im_end|>")
    template_writes_it = (*start, f"{TAIL}one", "<|im_start|>", "two")
    only_spelled = (*start, f"{TAIL}one<|im_start|>two")
    edited = (*start, f"{TAIL}one<|im_start|>three")

    def ids_of(segments: tuple[str, ...]) -> list[int]:
        return prompt_ids(prompt(*segments), vocabulary, generated, "me").ids

    assert ids_of(template_writes_it) == encoded.ids + output
    assert ids_of(only_spelled) == encoded.ids + output
    assert ids_of(edited)[: len(encoded.ids) + 3] == encoded.ids + bytewise("one")
    assert control not in ids_of(edited)[1:]


def test_a_text_elsewhere_and_another_clients_have_the_tokenizers_ids() -> None:
    vocabulary = ScriptedVocabulary()
    generated, cells = answered(vocabulary, "It is warm.")
    plain = memory(vocabulary)

    assert next_turn(vocabulary, generated, "It is warm.", client="you") == next_turn(vocabulary, plain, "It is warm.")
    elsewhere = prompt("<|im_start|>", f"{TAIL}It is warm.")
    ids = prompt_ids(elsewhere, vocabulary, generated, "me").ids
    assert ids == prompt_ids(elsewhere, vocabulary, plain, "me").ids
    assert not set(cells[-5:]) <= set(ids)


def test_of_two_spellings_at_one_place_the_newest_is_in_the_cells() -> None:
    vocabulary = ScriptedVocabulary()
    generated, cells = answered(vocabulary, "warm")
    encoded = asked(vocabulary, generated)
    words = vocabulary.tokenize("warm", parse_control=False)

    generated.remember("me", encoded.ids, encoded.tail_start, encoded.tail, words)

    assert next_turn(vocabulary, generated, "warm")[:-1] == encoded.ids + words
    assert generated.n_texts == 1
    assert cells != encoded.ids + words


def test_half_a_character_at_the_end_is_left_out() -> None:
    vocabulary = ScriptedVocabulary()
    generated = memory(vocabulary)
    encoded = asked(vocabulary, generated)
    generated.remember("me", encoded.ids, encoded.tail_start, encoded.tail, bytewise("fine \N{SNOWMAN}")[:-1])

    ids = next_turn(vocabulary, generated, "fine ")

    assert ids[:-1] == encoded.ids + bytewise("fine ")


def test_a_vocabulary_that_puts_a_space_before_each_text_gets_none_in_the_middle() -> None:
    vocabulary = Spaced()
    generated, _ = answered(vocabulary, "the weather in Paris")

    ids = next_turn(vocabulary, generated, "the weather in Basel")

    assert ids == next_turn(vocabulary, memory(vocabulary), "the weather in Basel")
    assert next_turn(vocabulary, generated, "the weather in Paris")[-9:-1] == bytewise("in Paris")


def test_memory_is_bounded_in_number_and_bytes() -> None:
    vocabulary = ScriptedVocabulary()
    generated = memory(vocabulary, max_count=5, max_bytes=20_000)
    for i in range(50):
        answered(vocabulary, f"answer {i}", generated)
    assert generated.n_texts == 5

    for i in range(50):
        answered(vocabulary, f"answer {i} " + "x" * 1000, generated)
        assert generated.n_bytes <= 20_000
    assert 1 <= generated.n_texts < 5

    answered(vocabulary, "y" * 20_000, generated)
    assert next_turn(vocabulary, generated, "y" * 20_000)[-2] != ord("y")


def test_what_is_used_is_kept() -> None:
    vocabulary = ScriptedVocabulary()
    generated, cells = answered(vocabulary, "used", memory(vocabulary, max_count=5))
    for i in range(20):
        answered(vocabulary, f"answer {i}", generated)
        assert next_turn(vocabulary, generated, "used")[:-1] == cells


def test_the_answers_to_one_prompt_are_bounded_too() -> None:
    vocabulary = ScriptedVocabulary()
    generated = memory(vocabulary)
    for i in range(300):
        answered(vocabulary, f"answer {i}", generated)

    assert generated.n_texts < 100


@cache
def demo() -> tuple[Vocabulary, ChatTemplate]:
    from nbllama.engine.llama_runtime import LlamaOptions, LlamaRuntime

    runtime = LlamaRuntime.load(resolve("demo").path, "demo", LlamaOptions(max_sequences=1))
    info, control = runtime.info, runtime.vocabulary.control_tokens()
    template = ChatTemplate(info.chat_template or "", bos=info.bos, eos=info.eos, control_tokens=control)
    return runtime.vocabulary, template


@cache
def scripted() -> tuple[Vocabulary, ChatTemplate]:
    vocabulary = ScriptedVocabulary()
    control = vocabulary.control_tokens()
    return vocabulary, ChatTemplate(CHATML, bos="", eos="<|im_end|>", control_tokens=control)


TEXTS = st.text(alphabet=st.sampled_from('ab  \n.é\N{SNOWMAN}<|{"1'), max_size=12) | st.sampled_from(
    ["<|im_end|>", "<think>", "Hello", "Hello there. ", "<tool_call>\n{", "\ud83e"]
)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([demo, scripted]),
    st.lists(TEXTS, min_size=1, max_size=4),
    st.lists(TEXTS, min_size=1, max_size=3),
    st.data(),
)
@example(scripted, ["a", "b"], ["ab"], None)
def test_a_prompts_ids_spell_the_prompt(model: Any, answers: list[str], edits: list[str], data: Any) -> None:
    """Whatever was generated before, with whatever ids, and whatever is sent back."""
    vocabulary, template = model()
    generated = memory(vocabulary)
    messages: list[dict[str, Any]] = [{"role": "user", "content": "hello"}]
    for answer in answers:
        rendered, encoded = spelled(vocabulary, template, generated, messages)
        plain = prompt_ids(rendered, vocabulary, memory(vocabulary), "me")
        assert text_of(vocabulary, encoded.ids) == text_of(vocabulary, plain.ids)
        assert prompt_ids(rendered, vocabulary, generated, "me") == encoded
        output = oddly(vocabulary, answer, data)
        generated.remember("me", encoded.ids, encoded.tail_start, encoded.tail, output)
        sent = answer if data is None else data.draw(st.sampled_from([answer, answer.strip(), *edits]))
        messages += [{"role": "assistant", "content": sent}, {"role": "user", "content": "and?"}]


def spelled(
    vocabulary: Vocabulary, template: ChatTemplate, generated: GeneratedIds, messages: list[dict[str, Any]]
) -> tuple[Prompt, Encoded]:
    body = json.loads(json.dumps({"model": "any", "max_tokens": 8, "messages": [m for m in messages if m["content"]]}))
    rendered = template.render(messages_request(body))
    return rendered, prompt_ids(rendered, vocabulary, generated, "me")


def oddly(vocabulary: Vocabulary, text: str, data: Any) -> list[int]:
    """Ids of a text, cut into tokens at random places; also a control token now and then."""
    ids: list[int] = []
    while text:
        n = 1 if data is None else data.draw(st.integers(1, len(text)))
        ids += vocabulary.tokenize(text[:n], parse_control=True)
        text = text[n:]
    return ids


def test_contexts_tell_clients_and_ids_apart() -> None:
    digests = set()
    for client, ids in (("a", [1]), ("a", [1, 2]), ("b", [1]), ("a", [2, 1]), ("a", [])):
        context = Context(client)
        context.add(ids)
        digests.add(context.digest())
    assert len(digests) == 5
