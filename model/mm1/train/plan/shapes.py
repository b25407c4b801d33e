"""Names and shapes of a model's parameters, from sizes alone. Torch-free.

Sizes (mm1.train.flops) -> {name: shape}, the same as those of the built model: CLIP tower, connector, Qwen3 (MoE) decoder
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from mm1.train.config import DecoderConfig
from mm1.train.flops import SQUEEZE, Sizes

Shapes = dict[str, tuple[int, ...]]
Pairs = Iterator[tuple[str, tuple[int, ...]]]

EXPERTS = ".mlp.experts."
BLOCK = re.compile(r"^(.*\.layers\.\d+)\.")
"""What belongs to one block of the tower or the decoder."""


def parameter_shapes(sizes: Sizes) -> Shapes:
    """All parameters; a tied output layer is no parameter of its own."""
    return dict([*_vision(sizes), *_connector(sizes), *_decoder(sizes.decoder)])


def num_parameters(shapes: Shapes) -> int:
    """Their number."""
    return sum(map(math.prod, shapes.values()))


def num_experts_parameters(shapes: Shapes) -> int:
    """Those in experts."""
    return sum(math.prod(shape) for name, shape in shapes.items() if EXPERTS in name)


def largest_block(numels: dict[str, int]) -> int:
    """Parameters of the largest block, from the number of each name."""
    blocks: dict[str, int] = {}
    for name, numel in numels.items():
        if found := BLOCK.match(name):
            blocks[found[1]] = blocks.get(found[1], 0) + numel
    return max(blocks.values())


def _linear(name: str, outputs: int, inputs: int, *, bias: bool = True) -> Pairs:
    yield f"{name}.weight", (outputs, inputs)
    if bias:
        yield f"{name}.bias", (outputs,)


def _norm(name: str, width: int) -> Pairs:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _vision(sizes: Sizes) -> Pairs:
    vision, tower = sizes.vision, "model.vision_tower"
    width, patch = vision.hidden_size, vision.patch_size_px
    yield f"{tower}.embeddings.class_embedding", (width,)
    yield f"{tower}.embeddings.patch_embedding.weight", (width, 3, patch, patch)
    yield f"{tower}.embeddings.position_embedding.weight", (sizes.patches + sizes.class_tokens, width)
    yield from _norm(f"{tower}.pre_layrnorm", width)
    for number in range(vision.num_layers):
        layer = f"{tower}.encoder.layers.{number}"
        for matrix in ("k_proj", "v_proj", "q_proj", "out_proj"):
            yield from _linear(f"{layer}.self_attn.{matrix}", width, width)
        yield from _norm(f"{layer}.layer_norm1", width)
        yield from _linear(f"{layer}.mlp.fc1", vision.ffn_size, width)
        yield from _linear(f"{layer}.mlp.fc2", width, vision.ffn_size)
        yield from _norm(f"{layer}.layer_norm2", width)


def _connector(sizes: Sizes) -> Pairs:
    connector, name = sizes.connector, "model.connector"
    vision, text = sizes.vision.hidden_size, sizes.decoder.hidden_size
    if connector.type == "average_pool":
        yield from _linear(f"{name}.projection", text, vision)
    elif connector.type == "attention_pool":
        yield f"{name}.queries_KD", (sizes.image_tokens, text)
        yield from _norm(f"{name}.norm", vision)
        yield from _attention_pool(f"{name}.attention", vision, text)
    else:
        side = math.isqrt(sizes.patches)
        width, depth = connector.hidden_size, connector.depth
        yield f"{name}.positions_hwV", (side, side, vision)
        for stage, first in (("stage1", vision), ("stage2", width)):
            for number in range(depth):
                yield from _regnet_block(f"{name}.{stage}.{number}", width if number else first, width)
        yield from _linear(f"{name}.readout.0", text, width)
        for number in range(1, connector.mlp_depth):
            yield from _linear(f"{name}.readout.{2 * number}", text, text)


def _attention_pool(name: str, vision: int, text: int) -> Pairs:
    if vision == text:
        yield f"{name}.in_proj_weight", (3 * text, text)
    else:  # torch's attention keeps the three apart where keys have another width
        yield f"{name}.q_proj_weight", (text, text)
        yield f"{name}.k_proj_weight", (text, vision)
        yield f"{name}.v_proj_weight", (text, vision)
    yield f"{name}.in_proj_bias", (3 * text,)
    yield from _linear(f"{name}.out_proj", text, text)


def _regnet_block(name: str, inputs: int, width: int) -> Pairs:
    squeezed = max(1, round(SQUEEZE * inputs))
    yield from _linear(f"{name}.conv1", width, inputs, bias=False)
    yield f"{name}.conv2.weight", (width, 1, 3, 3)
    yield from _linear(f"{name}.squeeze_excite.reduce", squeezed, width)
    yield from _linear(f"{name}.squeeze_excite.expand", width, squeezed)
    yield from _linear(f"{name}.conv3", width, width, bias=False)
    for number in (1, 2, 3):
        yield from _norm(f"{name}.norm{number}", width)
    if inputs != width:
        yield from _linear(f"{name}.shortcut.0", width, inputs, bias=False)
        yield from _norm(f"{name}.shortcut.1", width)


def _decoder(decoder: DecoderConfig) -> Pairs:
    width, heads = decoder.hidden_size, decoder.num_heads * decoder.head_size
    groups = decoder.num_kv_heads * decoder.head_size
    yield "model.language_model.embed_tokens.weight", (decoder.vocab_size, width)
    for number in range(decoder.num_layers):
        layer = f"model.language_model.layers.{number}"
        for matrix, outputs in (("q_proj", heads), ("k_proj", groups), ("v_proj", groups)):
            yield f"{layer}.self_attn.{matrix}.weight", (outputs, width)
        yield f"{layer}.self_attn.o_proj.weight", (width, heads)
        yield f"{layer}.self_attn.q_norm.weight", (decoder.head_size,)
        yield f"{layer}.self_attn.k_norm.weight", (decoder.head_size,)
        if is_sparse(decoder, number):
            inner = decoder.expert_ffn_size or decoder.ffn_size
            yield f"{layer}{EXPERTS}gate_up_proj", (decoder.num_experts, 2 * inner, width)
            yield f"{layer}{EXPERTS}down_proj", (decoder.num_experts, width, inner)
            yield f"{layer}.mlp.gate.weight", (decoder.num_experts, width)
        else:
            yield f"{layer}.mlp.gate_proj.weight", (decoder.ffn_size, width)
            yield f"{layer}.mlp.up_proj.weight", (decoder.ffn_size, width)
            yield f"{layer}.mlp.down_proj.weight", (width, decoder.ffn_size)
        yield f"{layer}.input_layernorm.weight", (width,)
        yield f"{layer}.post_attention_layernorm.weight", (width,)
    yield "model.language_model.norm.weight", (width,)
    if not decoder.tie_embeddings:
        yield "lm_head.weight", (decoder.vocab_size, width)


def is_sparse(decoder: DecoderConfig, layer: int) -> bool:
    """Whether a layer, counted from 0, has experts."""
    return bool(decoder.num_experts) and (layer + 1) % decoder.sparse_every == 0
