"""Routers in float32, whatever dtype the model has.

The scores of a router decide which experts a token is sent to. In bfloat16, with 8 bits of precision, equal scores are
common, and the weights of the chosen experts do not sum to 1. Switch Transformer (arXiv 2101.03961, section 2.4) computes its
router in float32 for stability; so does Megatron-Core.

The weights stay in the dtype of the model; products, softmax and top-k are computed in float32, also under autocast.
"""

from functools import cache
from typing import Any

import torch
from torch import nn


def use_float32_routers(decoder: nn.Module) -> int:
    """Make the routers of a decoder compute in float32.

    Args:
        decoder: of transformers. Its routers are the modules whose outputs it records as `router_logits`, next to experts
            that take weights of any dtype (those of transformers' experts interface), and without submodules.

    Returns:
        The number of routers; 0 if the decoder has none of this kind, which then keep the dtype of the model.
    """
    recorder: Any = (getattr(decoder, "_can_record_outputs", None) or {}).get("router_logits")
    router_class = getattr(recorder, "target_class", recorder)
    layer_name = getattr(recorder, "layer_name", None)
    if not isinstance(router_class, type):
        return 0
    number = 0
    for name, module in list(decoder.named_modules()):
        is_named = layer_name is None or f".{layer_name}." in f".{name}."
        if issubclass(type(module), router_class) and is_named and _serves_experts(decoder, name):
            compute_in_float32(module)
            number += 1
    return number


def _serves_experts(decoder: nn.Module, name: str) -> bool:
    """Whether a module has no submodules, and a neighbour with transformers' experts interface."""
    neighbours = decoder.get_submodule(name.rpartition(".")[0]).children()
    return not list(decoder.get_submodule(name).children()) and any(hasattr(module, "has_gate") for module in neighbours)


def compute_in_float32(module: nn.Module) -> None:
    """Make a module without submodules compute in float32; names and dtypes of its weights do not change."""
    own_class: Any = type(module)  # Any: a class that is made at run time
    if not issubclass(own_class, _Float32):
        module.__class__ = _float32_class(own_class)


class _Float32(nn.Module):
    """Mixed into the class of a module that computes in float32."""

    _base: type[nn.Module]
    """Its own class."""

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Run the module's own forward pass on hidden_states (tokens, width) and weights in float32."""
        # Attributes of the instance hide its parameters. Casting them here, not in each product, also suits ZeRO 3, which
        # gathers a parameter before this and replaces torch's linear function.
        cast = {name: _to_float32(weight) for name, weight in self._parameters.items()}
        self.__dict__.update(cast)
        try:
            device = "cpu" if hidden_states.is_meta else hidden_states.device.type  # the meta device has no autocast
            with torch.autocast(device, enabled=False):
                return super().forward(_to_float32(hidden_states), *args, **kwargs)
        finally:
            for name in cast:
                del self.__dict__[name]

    def __reduce__(self) -> Any:  # pickle does not know classes that are made at run time
        return _restored, (self._base, dict(self.__dict__))


def _restored(base: Any, state: dict[str, Any]) -> nn.Module:
    module = base.__new__(base)
    module.__setstate__(state)
    compute_in_float32(module)
    return module


@cache
def _float32_class(base: Any) -> type[nn.Module]:
    return type(base.__name__, (_Float32, base), {"__module__": base.__module__, "_base": base})


def _to_float32(tensor: torch.Tensor | None) -> Any:
    if tensor is None or tensor.dtype not in (torch.bfloat16, torch.float16):
        return tensor
    return tensor.float()
