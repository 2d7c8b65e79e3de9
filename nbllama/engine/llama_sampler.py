"""How llama.cpp draws a token: a chain of filters with its random state."""

from __future__ import annotations

import ctypes
import secrets
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from nbllama.engine.sampling import SamplingSettings


class LlamaSampler:
    """A sampler chain with its random state."""

    def __init__(self, settings: SamplingSettings) -> None:
        chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        for link in self._links(settings):
            llama_cpp.llama_sampler_chain_add(chain, link)
        self.chain: Any = chain
        self.top_k = settings.top_k if settings.temperature > 0 else 1

    def close(self) -> None:
        if self.chain is not None:
            llama_cpp.llama_sampler_free(self.chain)
            self.chain = None

    @staticmethod
    def _links(settings: SamplingSettings) -> list[Any]:
        if settings.temperature <= 0:
            return [llama_cpp.llama_sampler_init_greedy()]
        seed = settings.seed if settings.seed is not None else secrets.randbits(32)
        links = []
        if settings.top_k > 0:
            links.append(llama_cpp.llama_sampler_init_top_k(settings.top_k))
        if settings.top_p < 1.0:
            links.append(llama_cpp.llama_sampler_init_top_p(settings.top_p, 1))
        if settings.min_p > 0.0:
            links.append(llama_cpp.llama_sampler_init_min_p(settings.min_p, 1))
        links.append(llama_cpp.llama_sampler_init_temp(settings.temperature))
        links.append(llama_cpp.llama_sampler_init_dist(seed & 0xFFFFFFFF))
        return links


def choose(chain: Any, found: npt.NDArray[np.void]) -> int:
    """What llama_sampler_sample does, for the candidates alone."""
    data = ctypes.cast(found.ctypes.data, ctypes.POINTER(llama_cpp.llama_token_data))
    array = llama_cpp.llama_token_data_array(data, len(found), -1, False)
    llama_cpp.llama_sampler_apply(chain, ctypes.byref(array))
    token = int(array.data[array.selected].id)
    llama_cpp.llama_sampler_accept(chain, token)
    return token
