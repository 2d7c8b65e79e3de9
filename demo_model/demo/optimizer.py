"""Muon for the matrices inside the layers, AdamW for the embeddings and the gain.

Muon makes each update of a matrix orthogonal: all directions learn at the same speed, the rare ones too.
"""

from __future__ import annotations

from typing import Any

import torch

from demo_model.demo.model import DemoModel

DECAY = 0.05
ADAM_SCALE = 1.0
"""The embeddings' rate beside the matrices'; Muon's updates are scaled to the size of AdamW's."""


class MuonAndAdam:
    """Both as one, as far as a training loop looks at it."""

    def __init__(self, model: DemoModel, rate: float) -> None:
        matrices = list(model.matrices())
        adjusted = "match_rms_adamw"
        self._muon = torch.optim.Muon(matrices, lr=rate, weight_decay=DECAY, momentum=0.95, adjust_lr_fn=adjusted)
        others = [{"params": [model.embeddings, model.gain], "scale": ADAM_SCALE}]
        self._adam = torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
        self._all: list[torch.optim.Optimizer] = [self._muon, self._adam]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for one in self._all for group in one.param_groups]

    def zero_grad(self) -> None:
        for one in self._all:
            one.zero_grad()

    def step(self) -> None:
        for one in self._all:
            one.step()

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self._muon.state_dict(), "adam": self._adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._muon.load_state_dict(state["muon"])
        self._adam.load_state_dict(state["adam"])
