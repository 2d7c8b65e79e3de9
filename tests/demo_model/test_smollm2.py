"""SmolLM2 in torch: a shared prefix changes nothing but the work, and llama.cpp computes the same."""

from __future__ import annotations

from pathlib import Path

import llama_cpp
import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch", reason="no torch: pip install -r demo_model/requirements.txt")
pytest.importorskip("tokenizers", reason="no tokenizers: pip install -r demo_model/requirements.txt")

from demo_model.packing import Branch, Packs, Sample, encode_group, pack  # noqa: E402
from demo_model.smollm2.base import SHA256  # noqa: E402
from demo_model.smollm2.export import BASE_KEY, LARGEST, write_adapter  # noqa: E402
from demo_model.smollm2.model import Lora, SmolLM2  # noqa: E402
from demo_model.smollm2.tokenizer import Encoder  # noqa: E402
from demo_model.training import Limits, Schedule, Trainer  # noqa: E402
from tests.demo_model.dialogues import groups  # noqa: E402

Logits = npt.NDArray[np.float32]
PROMPT = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
TEXTS = [
    PROMPT,
    '<tool_call>\n{"name": "add_item", "arguments": {"n": 12345, "x": -0.5}}\n</tool_call><|im_end|>\n',
    "  two  spaces,\ttabs\n\n\n and don't  I'LL we'Ve stop ",
    "naïve Ünïcödé 北京市 ½ ٣٤ ² Ⅻ 🙂🏽 e\u0301 \u00a0 nbsp \u200b zero",
    "def f(x):\n    return x**2  # 100%\n\n\nSELECT * FROM t WHERE a='b';",
    "<|im_start|>system\n<tools>\n</tools><|im_end|>\n<file_sep><|endoftext|>",
    "",
]


@pytest.fixture(scope="module")
def encode(base: Path) -> Encoder:
    return Encoder(base)


@pytest.fixture(scope="module")
def model(base: Path) -> SmolLM2:
    """In fp32, with an adapter whose every number matters."""
    torch.manual_seed(5)
    model = SmolLM2(base, Lora(rank=16, alpha=32.0, top=20), torch.float32)
    for name, parameter in model.named_parameters():
        if name.endswith(".b"):
            torch.nn.init.normal_(parameter, std=0.05)
    return model


@pytest.fixture(scope="module")
def llama(base: Path, model: SmolLM2, tmp_path_factory: pytest.TempPathFactory) -> llama_cpp.Llama:
    adapter = tmp_path_factory.mktemp("adapter") / "adapter.gguf"
    write_adapter(model, SHA256, adapter)
    return llama_cpp.Llama(str(base), lora_path=str(adapter), n_ctx=512, n_threads=2, logits_all=True, verbose=False)


def gradients(model: SmolLM2) -> dict[str, torch.Tensor]:
    taken = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    return taken


def test_a_shared_prefix_changes_neither_loss_nor_gradients(model: SmolLM2, encode: Encoder) -> None:
    stream = groups(3)
    samples = [encode_group(next(stream), encode) for _ in range(2)]
    shared = pack(samples)
    loss = model.loss(shared)
    loss.backward()
    expected = gradients(model)

    total, learnt = 0.0, len(shared.targets)
    for sample in samples:
        for branch in sample.branches:
            whole = Branch(sample.prefix + branch.ids, [False] * len(sample.prefix) + branch.learn)
            alone = pack([Sample([], [whole])])
            part = model.loss(alone) * (len(alone.targets) / learnt)
            part.backward()
            total += part.item()
    assert total == pytest.approx(loss.item(), rel=1e-5)
    for name, gradient in gradients(model).items():
        assert (gradient - expected[name]).norm() < 1e-3 * expected[name].norm(), name


def test_a_gradient_says_how_the_loss_changes(model: SmolLM2, encode: Encoder) -> None:
    whole = pack([encode_group(next(groups(4)), encode)])
    model.loss(whole).backward()
    taken = gradients(model)
    for name in ("layers.10.qkv.b", "layers.17.gate_up.a", "layers.29.down.b", "layers.29.out.a"):
        parameter, gradient = dict(model.named_parameters())[name], taken[name]
        direction = gradient / gradient.norm()
        losses = []
        for step in (0.01, -0.01):
            with torch.no_grad():
                parameter += step * direction
                losses.append(model.loss(whole).item())
                parameter -= step * direction
        assert (losses[0] - losses[1]) / 0.02 == pytest.approx(gradient.norm().item(), rel=0.05), name


def llama_ids(llama: llama_cpp.Llama, text: str) -> list[int]:
    return list(llama.tokenize(text.encode(), add_bos=False, special=True))


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_llama_cpps(llama: llama_cpp.Llama, encode: Encoder, text: str) -> None:
    assert encode(text) == llama_ids(llama, text)
    assert encode.decode(encode(text)) == text


def test_ids_of_whole_dialogues_are_llama_cpps(llama: llama_cpp.Llama, encode: Encoder) -> None:
    stream = groups(8)
    for _ in range(20):
        group = next(stream)
        assert encode(group.prefix) == llama_ids(llama, group.prefix)


@pytest.mark.parametrize("text", [PROMPT, TEXTS[1], "Once upon a time, there was a"])
def test_llama_cpp_computes_the_same_with_the_adapter(
    model: SmolLM2, llama: llama_cpp.Llama, encode: Encoder, text: str
) -> None:
    """llama.cpp rounds what it multiplies to 8 bits: logits differ a little, and where two tie the likeliest token."""
    ids = encode(text)
    llama.reset()
    llama.eval(ids)
    while len(ids) < 50:
        ids.append(int(np.argmax(llama.scores[len(ids) - 1])))
        llama.eval(ids[-1:])
    theirs, ours = llama.scores[: len(ids)], model.logits(ids).numpy()
    assert likeness(theirs, ours) > 0.995
    assert (theirs.argmax(-1) == ours.argmax(-1)).mean() >= 0.8
    ahead = ours.max(-1) - ours[np.arange(len(ids)), theirs.argmax(-1)]
    assert ahead.max() < 0.5


def likeness(theirs: Logits, ours: Logits) -> float:
    """The lowest correlation of any two rows."""
    return float(min(np.corrcoef(row, other)[0, 1] for row, other in zip(theirs, ours, strict=True)))


def test_without_the_adapter_llama_cpp_computes_something_else(model: SmolLM2, base: Path, encode: Encoder) -> None:
    plain = llama_cpp.Llama(str(base), n_ctx=64, n_threads=2, logits_all=True, verbose=False)
    ids = encode(PROMPT)
    plain.eval(ids)
    assert likeness(plain.scores[: len(ids)], model.logits(ids).numpy()) < 0.98


def test_the_adapter_names_its_base_and_is_small(model: SmolLM2, tmp_path: Path) -> None:
    from gguf import GGUFReader

    path = tmp_path / "adapter.gguf"
    write_adapter(model, SHA256, path)
    fields = GGUFReader(path).fields
    said = {key: fields[key].contents() for key in ("general.type", "adapter.type", "adapter.lora.alpha", BASE_KEY)}
    assert said == {"general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": 32.0, BASE_KEY: SHA256}
    assert path.stat().st_size <= LARGEST


class Run:
    """A small training, for three steps of which the loss is compared."""

    def __init__(self, base: Path, encode: Encoder, seed: int = 1) -> None:
        torch.manual_seed(seed)
        self.model = SmolLM2(base, Lora(rank=4, alpha=8.0, top=2))
        data = Packs(groups, encode, seed=seed, rows=512, window=4)
        self.trainer = Trainer(self.model, self.model.loss, data, Schedule(20_000, warm_up=0), {"lora": {}})

    def losses(self, count: int) -> list[float]:
        return [self.trainer.step(1.0) for _ in range(count)]


def test_a_resumed_run_takes_the_steps_of_one_that_was_not_stopped(base: Path, encode: Encoder, tmp_path: Path) -> None:
    whole = Run(base, encode)
    whole.losses(3)
    whole.trainer.save(tmp_path / "checkpoint.pt")
    expected = whole.losses(3)

    again = Run(base, encode, seed=9)
    again.trainer.resume(tmp_path / "checkpoint.pt")
    assert again.losses(3) == pytest.approx(expected, rel=1e-6)
    assert again.trainer.progress.step == 6


def test_a_restarted_schedule_keeps_what_was_learnt_and_takes_other_data(
    base: Path, encode: Encoder, tmp_path: Path
) -> None:
    first = Run(base, encode)
    first.losses(4)
    first.trainer.save(tmp_path / "checkpoint.pt")
    again = Run(base, encode, seed=2)
    again.trainer.resume(tmp_path / "checkpoint.pt", restart_schedule=True)
    assert again.trainer.data.state()["seed"] == 2
    assert (again.trainer.progress.step, again.trainer.progress.schedule_tokens) == (4, 0)
    for name, parameter in first.model.named_parameters():
        assert torch.equal(parameter, dict(again.model.named_parameters())[name])


def test_the_loss_falls_and_a_run_ends_with_its_schedule(base: Path, encode: Encoder, tmp_path: Path) -> None:
    run = Run(base, encode)
    run.trainer.schedule = Schedule(6_000, peak=3e-3, warm_up=0)
    said: list[str] = []
    before = run.losses(1)[0]
    assert run.trainer.run(tmp_path / "end.pt", Limits(report_steps=2), said.append)
    assert run.losses(1)[0] < before - 0.2
    assert any("tokens/s" in line for line in said) and said[-1].endswith("end.pt")
