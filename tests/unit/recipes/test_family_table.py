"""The table of docs/reference/recipes.md is what the models count to; `make golden` writes it anew."""

import os
import re
from pathlib import Path

import pytest
import torch

from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.recipes import registry
from mm1.train.flops import count_flops, full_work
from mm1.train.model import model_config
from mm1.train.optim import num_decoder_parameters
from mm1.train.schedule import learning_rate_law

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "recipes.md"
COLUMNS = (
    "recipe",
    "layers x width, heads, feed-forward",
    "experts",
    "language model",
    "encoder",
    "connector",
    "all",
    "N",
    "peak rate",
    "step",
    "encoder's share",
)
HEAD = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n"


def row(name: str) -> str:
    config = registry.get(name)
    decoder = config.model.decoder
    with torch.device("meta"):
        model = MM1ForConditionalGeneration(model_config(config.model, config.sequence))
    encoder, connector, everything = (
        sum(parameter.numel() for parameter in part.parameters()) / 1e9
        for part in (model.model.vision_tower, model.model.connector, model)
    )
    parameters = num_decoder_parameters(model)
    flops = count_flops(model.config).step(full_work(config.sequence, config.train.global_batch))
    shape = f"{decoder.num_layers} x {decoder.hidden_size}, {decoder.num_heads}, {decoder.ffn_size}"
    experts = f"{decoder.num_experts}, every {decoder.sparse_every} layers" if decoder.num_experts else ""
    language = everything - encoder - connector
    sizes = f"{language:.2f} | {encoder:.2f} | {connector:.3f} | {everything:.2f} | {parameters / 1e9:.2f}"
    step = f"{flops.total / 1e15:.0f} | {flops.vision / flops.total:.0%}"
    return f"| `{name}` | {shape} | {experts} | {sizes} | {learning_rate_law(parameters):.1e} | {step} |\n"


@pytest.mark.golden
def test_the_page_has_the_table_of_the_family():
    family = [name for name in registry.names() if (config := registry.get(name)).sequence and config.model.decoder]
    table = HEAD + "".join(row(name) for name in family)
    text = PAGE.read_text(encoding="utf-8")
    block = re.compile(r"(<!-- family: .*? -->\n)(.*?)(<!-- /family -->)", re.DOTALL)
    if os.environ.get("MM1_UPDATE_GOLDEN"):
        text = block.sub(lambda found: found[1] + table + found[3], text)
        PAGE.write_text(text, encoding="utf-8")
    found = block.search(text)
    assert found and found[2] == table, "docs/reference/recipes.md: `make golden` writes its table anew if the change is meant"
