"""The names of vLLM that the plug-in needs, wherever the installed version keeps them. Needs no vLLM to import."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

_MODELS = "vllm.model_executor.models"
_MULTIMODAL = ("vllm.multimodal", "vllm.frontend.processing.multimodal")
NAMES: dict[str, tuple[str, ...]] = {
    "MULTIMODAL_REGISTRY": _MULTIMODAL,
    "MultiModalFieldConfig": tuple(f"{package}.inputs" for package in _MULTIMODAL),
    "BaseProcessingInfo": tuple(f"{package}.processing" for package in _MULTIMODAL),
    "BaseMultiModalProcessor": tuple(f"{package}.processing" for package in _MULTIMODAL),
    "PromptReplacement": tuple(f"{package}.processing" for package in _MULTIMODAL),
    "PromptUpdateDetails": tuple(f"{package}.processing" for package in _MULTIMODAL),
    "BaseDummyInputsBuilder": (*(f"{package}.processing" for package in _MULTIMODAL), "vllm.multimodal.profiling"),
    "SupportsMultiModal": (f"{_MODELS}.interfaces",),
    "SupportsPP": (f"{_MODELS}.interfaces",),
    "AutoWeightsLoader": (f"{_MODELS}.utils",),
    "WeightsMapper": (f"{_MODELS}.utils",),
    "init_vllm_registered_model": (f"{_MODELS}.utils",),
    "maybe_prefix": (f"{_MODELS}.utils",),
}
"""Name -> modules that may have it; a version has it in one of them."""


class OtherVersionError(ImportError):
    """The installed vLLM lacks what the plug-in needs."""


def load_interfaces() -> SimpleNamespace:
    """Import all names.

    Raises:
        OtherVersionError: this version of vLLM does not have one of them.
    """
    return SimpleNamespace(**{name: _find(name, modules) for name, modules in NAMES.items()})


def _find(name: str, modules: tuple[str, ...]) -> object:
    for module in modules:
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue
    raise OtherVersionError(f"it has no {name} in {' or '.join(modules)}")
