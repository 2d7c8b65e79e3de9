"""The demo model's training: its dialogues, its tokenizer, and that llama.cpp computes what was trained."""

from __future__ import annotations

import itertools
import random
import re
from pathlib import Path

import llama_cpp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="no torch: pip install -r demo_model/requirements.txt")
tokenizers = pytest.importorskip("tokenizers", reason="no tokenizers: pip install -r demo_model/requirements.txt")

from demo_model.demo.dialogues import LONG, DemoMix, groups  # noqa: E402
from demo_model.demo.export import LARGEST, load_checkpoint, write_gguf  # noqa: E402
from demo_model.demo.model import DemoModel, Size, other_targets  # noqa: E402
from demo_model.demo.optimizer import MuonAndAdam  # noqa: E402
from demo_model.demo.stages import CONTEXT, Stage, StagedPacks, stretched  # noqa: E402
from demo_model.demo.tokenizer import TAGS, Encoder, train_tokenizer  # noqa: E402
from demo_model.packing import Branch, Sample, encode_group, pack  # noqa: E402
from demo_model.training import Limits, Schedule, Trainer  # noqa: E402

SMALL = Size(layers=2, width=64, heads=2, key_heads=1, hidden=96, vocabulary=512)
TEXTS = [
    "<|im_start|>user\nWhat is the weather in Paris?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
    '<tool_call>\n{"name": "add_item", "arguments": {"n": 12345, "x": -0.5}}\n</tool_call><|im_end|>\n',
    "  two  spaces,\ttabs\n\n\n and \n\n1 line don't  I'LL we'Ve stop ",
    "naïve Ünïcödé 北京市 ½ ٣٤ ² Ⅻ 🙂🏽 e\u0301 \u00a0 nbsp \u200b zero",
    "def f(x):\n    return x**2  # 100%\n\n\nSELECT * FROM t WHERE a='b';",
    "<tools>\n</tools><think></think><|endoftext|><tool_response>\n</tool_response>",
    "",
]


@pytest.fixture(scope="module")
def encode() -> Encoder:
    return Encoder(train_tokenizer(itertools.islice(groups(1), 200), SMALL.vocabulary))


@pytest.fixture(scope="module")
def model() -> DemoModel:
    """In fp32, with numbers large enough to matter."""
    torch.manual_seed(5)
    model = DemoModel(SMALL, torch.float32)
    with torch.no_grad():
        model.embeddings *= 8
        model.gain *= torch.linspace(0.5, 1.5, SMALL.width)
    return model


@pytest.fixture(scope="module")
def exported(model: DemoModel, encode: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("demo") / "demo.gguf"
    write_gguf(model, encode.tokenizer, path, quantised=False)
    return path


@pytest.fixture(scope="module")
def llama(exported: Path) -> llama_cpp.Llama:
    return llama_cpp.Llama(str(exported), n_ctx=512, n_threads=1, logits_all=True, verbose=False)


def test_some_dialogues_are_long(encode: Encoder) -> None:
    samples = [encode_group(group, encode) for group in itertools.islice(groups(1, mix=LONG), 60)]
    longest = max(len(sample.prefix) + len(branch.ids) for sample in samples for branch in sample.branches)
    assert longest > 5000


# --- tokens


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_llama_cpps(llama: llama_cpp.Llama, encode: Encoder, text: str) -> None:
    assert encode(text) == list(llama.tokenize(text.encode(), add_bos=False, special=True))
    assert encode.decode(encode(text)) == text


def test_ids_of_whole_dialogues_are_llama_cpps(llama: llama_cpp.Llama, encode: Encoder) -> None:
    for group in itertools.islice(groups(8), 20):
        for text in (group.prefix, *("".join(text for text, _ in branch) for branch in group.branches)):
            assert encode(text) == list(llama.tokenize(text.encode(), add_bos=False, special=True))


def test_digits_and_spaces_stand_alone_and_tags_are_tokens(encode: Encoder) -> None:
    pieces = [encode.decode([id]) for id in range(SMALL.vocabulary)]
    assert not [piece for piece in pieces if len(piece) > 1 and re.search(r"[\d ]", piece)]
    assert all(len(encode(tag)) == 1 for tag in TAGS)
    for before in ("", " ", '"', "_"):
        assert encode(f"{before}weather")[-len(encode("weather")) :] == encode("weather")


# --- the network


def test_llama_cpp_computes_the_same(model: DemoModel, llama: llama_cpp.Llama, encode: Encoder) -> None:
    ids = encode(TEXTS[0] + TEXTS[1])
    llama.reset()
    llama.eval(ids)
    theirs, ours = llama.scores[: len(ids)], model.logits(ids).numpy()
    assert ours.std() > 1
    assert np.abs(theirs - ours).max() < 0.02 * ours.std()


def test_the_file_says_what_it_is(exported: Path, model: DemoModel, encode: Encoder, tmp_path: Path) -> None:
    from gguf import GGUFReader

    fields = GGUFReader(exported).fields
    assert fields["general.name"].contents() == "nbllama demo"
    assert fields["llama.context_length"].contents() == CONTEXT
    assert "<tool_call>" in fields["tokenizer.chat_template"].contents()
    full = DemoModel(dtype=torch.float32)
    write_gguf(full, encode.tokenizer, tmp_path / "full.gguf")
    assert 5_000_000 < (tmp_path / "full.gguf").stat().st_size <= LARGEST


def test_a_shared_prefix_changes_neither_loss_nor_gradients(model: DemoModel, encode: Encoder) -> None:
    stream = groups(3)
    samples = [encode_group(next(stream), encode) for _ in range(2)]
    shared = pack(samples)
    weight, model.prompt_weight = model.prompt_weight, 0.0
    loss = model.loss(shared)
    expected = torch.autograd.grad(loss, list(model.parameters()))
    parts = []
    for sample in samples:
        for branch in sample.branches:
            whole = Branch(sample.prefix + branch.ids, [False] * len(sample.prefix) + branch.learn)
            alone = pack([Sample([], [whole])])
            parts.append(model.loss(alone) * (len(alone.targets) / len(shared.targets)))
    again = torch.autograd.grad(torch.stack(parts).sum(), list(model.parameters()))
    model.prompt_weight = weight
    assert sum(part.item() for part in parts) == pytest.approx(loss.item(), rel=1e-5)
    for theirs, ours in zip(again, expected, strict=True):
        assert (theirs - ours).norm() < 1e-3 * ours.norm()


def test_a_gradient_says_how_the_loss_changes(model: DemoModel, encode: Encoder) -> None:
    whole = pack([encode_group(next(groups(4)), encode)])
    for parameter in model.parameters():
        (gradient,) = torch.autograd.grad(model.loss(whole), parameter)
        losses = []
        for step in (0.01, -0.01):
            with torch.no_grad():
                parameter += step * gradient / gradient.norm()
            losses.append(model.loss(whole).item())
            with torch.no_grad():
                parameter -= step * gradient / gradient.norm()
        assert (losses[0] - losses[1]) / 0.02 == pytest.approx(gradient.norm().item(), rel=0.05)


def test_the_prompt_is_learnt_from_a_little_and_only_in_training(model: DemoModel, encode: Encoder) -> None:
    whole = pack([encode_group(next(groups(4)), encode)])
    rows = [row for row, _ in other_targets(whole)]
    assert not set(rows) & set(whole.sources) and len(set(rows)) == len(rows) > 20
    with torch.no_grad():
        assert model.loss(whole).item() < model_loss_in_training(model, whole)


def model_loss_in_training(model: DemoModel, whole: object) -> float:
    with torch.enable_grad():
        return float(model.loss(whole).item())  # type: ignore[arg-type]


# --- stages, and a run


STAGES = (Stage("copying", 0.3, DemoMix(copying=1.0, long=0.0), 1024), Stage("rest", 0.7, DemoMix(long=0.0), 1536))


def test_stages_follow_each_other_and_a_restored_stream_goes_on_with_the_very_next_pack(encode: Encoder) -> None:
    first = StagedPacks(encode, seed=1, total=20_000, stages=STAGES)
    taken, places = [], []
    for _ in range(16):
        places.append(first.state())
        taken.append(first.take())
    assert {place["stage"] for place in places} == {0, 1}
    for begin in (1, 7, 12):
        again = StagedPacks(encode, seed=2, total=1, stages=STAGES)
        again.restore(places[begin])
        assert again.state() == places[begin]
        assert [again.take() for _ in range(3)] == taken[begin : begin + 3]


def test_a_torn_text_keeps_its_order_and_stays_in_the_context(encode: Encoder) -> None:
    whole = pack([encode_group(next(groups(4)), encode)])
    torn = [one for seed in range(100) if (one := stretched(whole, random.Random(seed))) is not whole]
    assert 2 < len(torn) < 30
    for one in torn:
        assert one.positions != whole.positions and max(one.positions) < CONTEXT
        for span in one.spans:
            begin = one.positions[span.start]
            assert one.positions[span.start : span.end] == list(range(begin, begin + span.end - span.start))
            assert begin >= (one.positions[span.prefix[1] - 1] + 1 if span.prefix[1] else 0)


class Run:
    """A small training."""

    def __init__(self, encode: Encoder, seed: int = 1, total: int = 30_000) -> None:
        torch.manual_seed(seed)
        self.model = DemoModel(SMALL)
        data = StagedPacks(encode, seed=seed, total=total, stages=STAGES)
        settings = {"size": SMALL.as_dict(), "tokenizer": encode.tokenizer.to_str(), "stage": None}
        schedule, optimizer = Schedule(total, 5e-3, warm_up=0), MuonAndAdam(self.model, 5e-3)
        self.trainer = Trainer(self.model, self.model.loss, data, schedule, settings, [], optimizer)

    def losses(self, count: int) -> list[float]:
        return [self.trainer.step(1.0) for _ in range(count)]


def test_a_resumed_run_takes_the_steps_of_one_that_was_not_stopped(encode: Encoder, tmp_path: Path) -> None:
    whole = Run(encode)
    whole.losses(4)
    whole.trainer.save(tmp_path / "checkpoint.pt")
    expected = whole.losses(4)
    again = Run(encode, seed=9)
    again.trainer.resume(tmp_path / "checkpoint.pt")
    assert again.losses(4) == expected


def test_the_loss_falls_and_what_was_learnt_is_exported(encode: Encoder, tmp_path: Path) -> None:
    run = Run(encode)
    before = run.losses(1)[0]
    assert run.trainer.run(tmp_path / "end.pt", Limits(), lambda line: None)
    assert run.losses(1)[0] < before - 1.5
    model, tokenizer = load_checkpoint(tmp_path / "end.pt", torch.float32)
    write_gguf(model, tokenizer, tmp_path / "end.gguf")
    llama = llama_cpp.Llama(str(tmp_path / "end.gguf"), n_ctx=256, n_threads=1, logits_all=True, verbose=False)
    ids = encode(TEXTS[0])
    llama.eval(ids)
    rows = zip(llama.scores[: len(ids)], model.logits(ids).numpy(), strict=True)
    assert min(np.corrcoef(theirs, ours)[0, 1] for theirs, ours in rows) > 0.995
