"""A package `vllm` with the interfaces that the plug-in uses, as the public documentation describes them, without kernels.

Its decoders are those of transformers, whose weights have the same names as vLLM's (before vLLM packs projections). It shows
that the plug-in builds, loads and computes; only a real vLLM shows that it serves (test_vllm_plugin.py runs that where it is).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM


class Registry:
    """vLLM's registry of architectures."""

    def __init__(self) -> None:
        self.models: dict[str, str] = {}

    def get_supported_archs(self) -> set[str]:
        return set(self.models)

    def register_model(self, architecture: str, model: str) -> None:
        assert architecture not in self.models
        self.models[architecture] = model


class SupportsMultiModal:
    @contextlib.contextmanager
    def _mark_tower_model(self, vllm_config: Any, modality: str) -> Iterator[None]:
        assert modality == "image"
        yield

    @contextlib.contextmanager
    def _mark_language_model(self, vllm_config: Any) -> Iterator[None]:
        yield


class Decoder(nn.Module):
    """A decoder with its output layer, called as vLLM calls one: tokens of one sequence, without a batch dimension."""

    def __init__(self, config: Any, architecture: str) -> None:
        super().__init__()
        model = AutoModelForCausalLM.from_config(config)
        assert type(model).__name__ == architecture
        self.base = model.base_model_prefix
        for name, child in model.named_children():
            setattr(self, name, child)
        self.make_empty_intermediate_tensors = lambda *_: None

    def forward(self, input_ids: Any, positions: torch.Tensor, intermediate_tensors: Any, inputs_embeds: Any) -> torch.Tensor:
        outputs = getattr(self, self.base)(inputs_embeds=inputs_embeds[None], position_ids=positions[None], use_cache=False)
        return outputs.last_hidden_state[0]

    def compute_logits(self, hidden_TD: torch.Tensor) -> torch.Tensor:
        return self.lm_head(hidden_TD)


@dataclass
class ProcessorInputs:
    """A prompt with its images, as vLLM passes it to a processor."""

    prompt: str
    mm_data_items: Any
    hf_processor_mm_kwargs: dict[str, Any]


class Items(dict[str, list[Any]]):
    """Images of a prompt by modality."""

    def get_all_counts(self) -> dict[str, int]:
        return {name: len(items) for name, items in self.items()}


class Processor:
    """The steps of vLLM's processor: the whole prompt if it is not cached, then fields and placeholders."""

    info: Any
    _get_prompt_updates: Any
    _get_mm_fields_config: Any

    def apply(self, inputs: ProcessorInputs) -> Any:
        return self._cached_apply_hf_processor(inputs)

    def _cached_apply_hf_processor(self, inputs: ProcessorInputs) -> Any:
        return self._apply_hf_processor(inputs)

    def _apply_hf_processor(self, inputs: ProcessorInputs) -> Any:
        images, options = inputs.mm_data_items["image"], inputs.hf_processor_mm_kwargs
        outputs = self._call_hf_processor(inputs.prompt, {"images": images}, options, {})
        (update,) = self._get_prompt_updates(inputs.mm_data_items, options, None)
        tokens = update.replacement
        of_images = [tokens(number) if callable(tokens) else tokens for number in range(len(images))]
        return outputs, self._get_mm_fields_config(outputs, options), of_images

    def _call_hf_processor(self, prompt: str, mm_data: Any, mm_kwargs: Any, tok_kwargs: Any) -> Any:
        return self.info.get_hf_processor()(text=prompt, **mm_data, **mm_kwargs, **tok_kwargs)


class WeightsMapper:
    def __init__(self, orig_to_new_prefix: dict[str, str]) -> None:
        self.prefixes = orig_to_new_prefix

    def apply(self, weights: Iterable[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in weights:
            old = next(old for old in self.prefixes if name.startswith(old))
            yield self.prefixes[old] + name.removeprefix(old), tensor


class AutoWeightsLoader:
    def __init__(self, module: nn.Module, skip_prefixes: list[str]) -> None:
        self.module, self.skipped = module, tuple(skip_prefixes)

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]], mapper: WeightsMapper) -> set[str]:
        targets = self.module.state_dict(keep_vars=True)
        loaded = set()
        for name, tensor in mapper.apply(weights):
            if not (self.skipped and name.startswith(self.skipped)):
                targets[name].data.copy_(tensor)
                loaded.add(name)
        return loaded


def modules(version: str = "0.33.0") -> dict[str, ModuleType]:
    """Name -> module of the stand-in."""
    names = ("", ".multimodal", ".multimodal.inputs", ".multimodal.processing", ".model_executor", ".model_executor.models")
    names += (".model_executor.models.interfaces", ".model_executor.models.utils")
    made = {f"vllm{name}": ModuleType(f"vllm{name}") for name in names}
    made["vllm"].__dict__.update(ModelRegistry=Registry(), __version__=version, __path__=[])
    made["vllm.multimodal"].__dict__.update(
        MULTIMODAL_REGISTRY=SimpleNamespace(register_processor=lambda *_, **__: lambda model: model), __path__=[]
    )
    made["vllm.multimodal.inputs"].__dict__.update(
        MultiModalFieldConfig=SimpleNamespace(
            batched=lambda modality: modality, flat_from_sizes=lambda modality, sizes: (modality, sizes.tolist())
        )
    )
    base = {name: type(name, (), {}) for name in ("BaseProcessingInfo", "BaseDummyInputsBuilder")}
    made["vllm.multimodal.processing"].__dict__.update(
        **base,
        BaseMultiModalProcessor=Processor,
        PromptReplacement=SimpleNamespace,
        PromptUpdateDetails=SimpleNamespace(select_token_id=lambda seq, embed_token_id: (seq, embed_token_id)),
    )
    made["vllm.model_executor.models.interfaces"].__dict__.update(
        SupportsMultiModal=SupportsMultiModal, SupportsPP=type("SupportsPP", (), {})
    )

    def init_vllm_registered_model(vllm_config: Any, hf_config: Any, prefix: str, architectures: list[str]) -> Decoder:
        return Decoder(hf_config, architectures[0])

    made["vllm.model_executor.models.utils"].__dict__.update(
        AutoWeightsLoader=AutoWeightsLoader,
        WeightsMapper=WeightsMapper,
        init_vllm_registered_model=init_vllm_registered_model,
        maybe_prefix=lambda prefix, name: f"{prefix}.{name}" if prefix else name,
    )
    return made


def install(monkeypatch: Any, version: str = "0.33.0") -> Registry:
    """Make the stand-in importable for a test; returns its registry."""
    for name, module in modules(version).items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "mm1.serve.vllm_plugin.model", raising=False)
    registry: Registry = sys.modules["vllm"].ModelRegistry
    return registry
