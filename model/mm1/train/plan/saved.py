"""Bytes that autograd saves for the backward pass, counted on an empty model.

    MM1Config, precision, Trained -> empty model of fake tensors -> forward pass of each part, with hooks on what it saves
        -> UnitBytes

Each part runs twice, with some units of work and with twice as many. The difference gives the bytes per unit: weights, their
copies under autocast and other constants cancel out. Autograd saves less of a part with frozen weights, and nothing below the
first trained parameter, on the empty model as in training.

The count is for CUDA on any device: attention is variable-length attention, which saves one number per head and token besides
queries, keys, values and output; autocast computes norms in float32. (On a CPU, packed attention saves more, a mask of the
squared length or a second output, and the norms of autocast save less.)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.nn import functional as F
from torch.nn.attention.varlen import varlen_attn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from transformers.modeling_utils import AttentionInterface

from mm1.errors import ConfigurationError
from mm1.modeling.configuration import MM1Config
from mm1.modeling.losses import position_losses, router_losses
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.train.empty_model import EVERYTHING, Trained, empty_model, fold_blocks, is_trained
from mm1.train.plan.activations import BlockBytes, PartBytes, Precision, UnitBytes
from mm1.train.plan.shapes import EXPERTS

VARLEN = "mm1_counted_varlen"
UNITS = 16
"""Units of the smaller of two passes."""


def unit_bytes(config: MM1Config, precision: Precision, trained: Trained = EVERYTHING) -> UnitBytes:
    """Count the bytes that autograd saves per unit of work.

    Args:
        config: of the model.
        precision: of the run.
        trained: what the run trains.

    Raises:
        ConfigurationError: shapes in a part of the model depend on data.
    """
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast")
    whole = empty_model(config, trained, dtype)
    blocks = fold_blocks(whole)  # first, because each fake tensor takes time to make
    with FakeTensorMode(allow_non_fake_inputs=True), _AsOnCuda(), autocast:
        whole.to_empty(device="cpu")  # of fake tensors
        whole.model.language_model.set_attn_implementation(VARLEN)
        units = _Parts(whole, blocks, precision).unit_bytes()
        if trained == EVERYTHING:
            return units
        # The gradients inside a block do not get smaller if its weights are frozen.
        return units.with_widest_of(_Parts(whole.requires_grad_(True), blocks, precision).unit_bytes())


class _Parts:
    """Passes through the parts of a model.

    Args:
        whole: the model, of fake tensors.
        blocks: its blocks, and the number of blocks that each of them represents.
        precision: of the run.
    """

    def __init__(self, whole: MM1ForConditionalGeneration, blocks: dict[nn.Module, int], precision: Precision) -> None:
        self.whole = whole
        self.recorder = _Recorder(blocks)
        self.product = 4 if precision == "float32" else 2
        """Bytes of a number in products."""
        self.routers = [number for block, number in blocks.items() if _has_experts(block)]
        model = whole.model
        self.features_have_gradient = is_trained(model.vision_tower, model.connector)
        self.hidden_has_gradient = self.features_have_gradient or is_trained(model.language_model)

    def unit_bytes(self) -> UnitBytes:
        """Count the bytes of each part."""
        config, text = self.whole.config, self.whole.config.text_config
        rows = 2 * self.product * config.num_experts_per_tok * text.hidden_size if self.routers else 0
        return UnitBytes(
            image=self.recorder.per_unit("tower and connector", self.encode),
            token=self.recorder.per_unit("decoder", self.decode, rows),
            prediction=self.recorder.per_unit("output layer", self.predict),
            # Gradients of logits are in float32, then in the dtype of products.
            logits=text.vocab_size * (4 if self.product == 4 else 4 + self.product),
        )

    def encode(self, images: int) -> torch.Tensor:
        """Run tower and connector."""
        return self.whole.get_image_features(torch.empty(images, 3, *self.whole.config.image_size))

    def decode(self, tokens: int) -> torch.Tensor:
        """Run the decoder and the losses of its routers."""
        index = torch.empty(tokens, dtype=torch.long)
        embeds = self.whole.get_input_embeddings()(index[None])
        if self.features_have_gradient:  # they replace embeddings
            embeds.requires_grad_()
        outputs = self.whole.model.language_model(
            inputs_embeds=embeds,
            attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool),  # a placeholder, as with packed documents
            use_cache=False,
            **({"output_router_logits": True} if self.routers else {}),
        )
        if self.routers:  # their losses copy the scores of the tokens that are not padding
            layers = zip(outputs.router_logits, self.routers, strict=True)
            scores = [scores for scores, number in layers for _ in range(number)]
            router_losses(tuple(layer[index] for layer in scores), None)
        hidden: torch.Tensor = outputs.last_hidden_state
        return hidden

    def predict(self, positions: int) -> torch.Tensor:
        """Run the output layer and its loss."""
        index = torch.empty(positions, dtype=torch.long)
        size, dtype = self.whole.config.text_config.hidden_size, self.whole.lm_head.weight.dtype
        hidden = torch.empty(1, 1, size, dtype=dtype, requires_grad=self.hidden_has_gradient)
        return position_losses(hidden[index, index], index.clone(), self.whole.lm_head)


def _has_experts(block: nn.Module) -> bool:
    return any(EXPERTS in f".{name}" for name, _ in block.named_parameters())


class _AsOnCuda(TorchFunctionMode):
    """Makes operations on a CPU save the same tensors as on CUDA."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            return _varlen(*args[:3]).transpose(1, 2)
        if func is torch._grouped_mm:  # torch infers its shapes for bfloat16 only
            rows_RI, weight_XIO = args
            return rows_RI @ weight_XIO[0]
        if func is F.layer_norm and torch.is_autocast_enabled("cpu"):
            args = (args[0].float(), *args[1:])
        return func(*args, **(kwargs or {}))


def _varlen(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Run attention (B, H, S, E) -> (B, S, H, E); the saved bytes do not depend on the attention mask."""
    if torch.is_autocast_enabled("cpu"):
        query, key, value = (states.to(torch.bfloat16) for states in (query, key, value))
    query_THE, key_THE, value_THE = (states.transpose(1, 2).flatten(0, 1) for states in (query, key, value))
    ends = torch.empty(2, dtype=torch.int32)
    lengths, grouped = (query.shape[2], key.shape[2]), key.shape[1] != query.shape[1]
    output_THE: Any = varlen_attn(query_THE, key_THE, value_THE, ends, ends, *lengths, enable_gqa=grouped)
    return output_THE.unflatten(0, (query.shape[0], query.shape[2]))


def _varlen_forward(module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any) -> Any:
    return _varlen(query, key, value), None


AttentionInterface.register(VARLEN, _varlen_forward)


class _Recorder:
    """Runs parts of a model and counts the bytes that autograd saves.

    Args:
        blocks: the model's blocks, and the number of blocks that each of them represents.
    """

    def __init__(self, blocks: dict[nn.Module, int]) -> None:
        self.blocks = blocks

    def per_unit(self, part: str, forward: Callable[[int], object], exchanged: float = 0.0) -> PartBytes:
        """Count the bytes per unit.

        Args:
            part: name of a part of the model.
            forward: runs it with a number of units.
            exchanged: of blocks with experts, see `BlockBytes`.

        Raises:
            ConfigurationError: shapes in the part depend on data.
        """
        try:
            few, many = (_Pass(self.blocks, partial(forward, units)) for units in (UNITS, 2 * UNITS))
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise ConfigurationError(
                f"cannot count the activations of the {part}: its shapes depend on data ({error.func}). For experts, set "
                "model.decoder.hidden_size and expert_ffn_size to multiples of 8"
            ) from error

        def unit(size: Callable[..., int], *modules: nn.Module) -> float:
            return (size(many, *modules) - size(few, *modules)) / UNITS

        blocks = tuple(
            BlockBytes(
                number=self.blocks[block],
                inputs=unit(_Pass.inputs, block) if unit(_Pass.saved_in, block) else 0.0,
                saved=unit(_Pass.saved_in, block),
                widest=max(unit(_Pass.made_in, layer) for layer in block.children()),
                exchanged=exchanged if _has_experts(block) else 0.0,
            )
            for block in many.blocks
        )
        return PartBytes(unit(_Pass.outside), blocks)


class _Pass:
    """A forward pass, with the storages that autograd saves in each block and layer.

    Args:
        blocks: the blocks to record, together with their layers.
        forward: runs the pass.
    """

    def __init__(self, blocks: Iterable[nn.Module], forward: Callable[[], object]) -> None:
        self._first: dict[nn.Module, set[int]] = {}
        self._given: dict[nn.Module, set[int]] = {}
        self._saved: dict[nn.Module | None, set[int]] = defaultdict(set)
        self._running: list[nn.Module | None] = [None]
        self._storages: dict[int, torch.UntypedStorage] = {}  # references, so that no id is reused
        modules = [module for block in blocks for module in (block, *block.children())]
        hooks = [module.register_forward_pre_hook(self._enter, with_kwargs=True) for module in modules]
        hooks += [module.register_forward_hook(self._leave) for module in modules]
        with torch.autograd.graph.saved_tensors_hooks(self._save, lambda tensor: tensor):
            forward()
        for hook in hooks:
            hook.remove()
        self.blocks = [block for block in blocks if block in self._given]
        """Blocks that ran."""
        # Arguments of a block other than its first, such as rotary embeddings, are shared by all blocks.
        shared = (self._given[block] - self._first[block] for block in self.blocks)
        self._outside = self._saved[None].union(*shared)

    def outside(self) -> int:
        """Count bytes saved outside of blocks, or passed to all of them."""
        return self._size(self._outside)

    def inputs(self, block: nn.Module) -> int:
        """Count bytes of a block's own input."""
        return self._size(self._first[block] - self._outside)

    def saved_in(self, block: nn.Module) -> int:
        """Count bytes that only this block saves."""
        return self._size(self._saved[block] - self._outside)

    def made_in(self, layer: nn.Module) -> int:
        """Count bytes that a layer saves of tensors that it creates itself."""
        return self._size(self._saved[layer] - self._given[layer])

    def _size(self, storages: set[int]) -> int:
        return sum(self._storages[storage].nbytes() for storage in storages)

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._running.append(module)
        self._first[module] = self._ids(args[:1])
        self._given[module] = self._ids((args, kwargs))

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self._running.pop()

    def _save(self, tensor: torch.Tensor) -> torch.Tensor:
        ids = self._ids(tensor)
        for module in self._running[1:] or self._running:
            self._saved[module] |= ids
        return tensor

    def _ids(self, values: Any) -> set[int]:
        storages = [tensor.untyped_storage() for tensor in tree_leaves(values) if isinstance(tensor, torch.Tensor)]
        self._storages |= {storage._cdata: storage for storage in storages}
        return {storage._cdata for storage in storages}
