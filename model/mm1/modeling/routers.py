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
from torch.overrides import TorchFunctionMode


def use_float32_routers(decoder: nn.Module) -> int:
    """Make the routers of a decoder compute in float32.

    Args:
        decoder: of transformers; its routers are the modules whose outputs it records as `router_logits`.

    Returns:
        The number of routers.
    """
    recorder: Any = (getattr(decoder, "_can_record_outputs", None) or {}).get("router_logits")
    router_class, layer_name = getattr(recorder, "target_class", recorder), getattr(recorder, "layer_name", None)
    if router_class is None:
        return 0
    number = 0
    for name, module in decoder.named_modules():
        if isinstance(module, router_class) and (layer_name is None or layer_name in name.split(".")):
            compute_in_float32(module)
            number += 1
    return number


def compute_in_float32(module: nn.Module) -> None:
    """Make a module compute in float32; names and dtypes of its weights do not change."""
    own_class: Any = type(module)  # Any: a class that is made at run time
    if not issubclass(own_class, _Float32):
        module.__class__ = _float32_class(own_class)


class _Float32(nn.Module):
    """Mixed into the class of a module that computes in float32."""

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        with torch.autocast(hidden_states.device.type, enabled=False), _FloatArguments():
            return super().forward(_to_float32(hidden_states), *args, **kwargs)


@cache
def _float32_class(base: Any) -> type[nn.Module]:
    return type(base.__name__, (_Float32, base), {"__module__": base.__module__})


class _FloatArguments(TorchFunctionMode):
    """Convert bfloat16 and float16 arguments of torch's functions to float32."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*map(_to_float32, args), **{name: _to_float32(value) for name, value in (kwargs or {}).items()})


def _to_float32(value: Any) -> Any:
    is_half = isinstance(value, torch.Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if is_half else value
