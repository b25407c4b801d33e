"""A connector that the planner does not know: plan and MFU follow the model, or refuse the name."""

from typing import get_args

import pytest
import torch
from torch import nn

from mm1.errors import ConfigurationError
from mm1.modeling import modeling
from mm1.modeling.configuration import CONNECTOR_TYPES
from mm1.modeling.connectors import build_connector
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.train.config import ConnectorConfig
from mm1.train.flops import count_flops
from mm1.train.model import model_config
from mm1.train.plan.activations import MicroBatch, activation_bytes
from mm1.train.plan.blueprint import Blueprint
from mm1.train.plan.forecast import Machine, forecast
from tests.support.saved_tensors import saved_bytes
from tests.support.synthetic import small_family

NAME = "model.connector.type"


class Expander(nn.Module):
    """The first patches of an image, through a feed-forward layer of seven times the decoder's width."""

    def __init__(self, config):
        super().__init__()
        vision, text = config.vision_config.hidden_size, config.text_config.hidden_size
        self.image_tokens = config.image_tokens
        self.up, self.down = nn.Linear(vision, 7 * text), nn.Linear(7 * text, text)

    def forward(self, patches_NPV, grid):
        return self.down(torch.tanh(self.up(patches_NPV[:, : self.image_tokens])))


@pytest.fixture
def config():
    return small_family("mm1_3b", "model.decoder.vocab_size=136", "train.gradient_checkpointing=false")


@pytest.fixture
def expander(monkeypatch):
    """The new connector instead of another."""
    monkeypatch.setattr(modeling, "build_connector", Expander)


def test_shapes_arithmetic_and_activations_follow_it(config, expander):
    model = MM1ForConditionalGeneration(model_config(config.model, config.sequence)).train()
    blueprint = Blueprint(model.config)
    assert blueprint.shapes == {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert blueprint.shapes["model.connector.up.weight"] == (7 * 32, 32)
    assert count_flops(model.config).connector == 3 * 4 * 2 * (32 * 7 * 32 + 7 * 32 * 32)

    pixels = torch.randn(5, 3, 24, 24)
    patches = torch.randn(5, 9, 32, requires_grad=True)  # the last block's output, which the tower itself does not save
    saved = saved_bytes(model.model.connector, lambda: model.model.connector(patches, (3, 3)))
    saved += saved_bytes(model.model.vision_tower, lambda: model.model.vision_tower(pixels))
    counted = activation_bytes(blueprint.unit_bytes("float32"), MicroBatch(0, 0, 5), checkpointing=False).saved
    assert counted == pytest.approx(saved, rel=0.02)


def test_a_forecast_follows_it(config, monkeypatch):
    known = model_config(config.model, config.sequence)
    with monkeypatch.context() as patch:
        patch.setattr(modeling, "build_connector", Expander)
        wider = forecast(config, Machine(1))
    before, after = (sum(parameter.numel() for parameter in build(known).parameters()) for build in (build_connector, Expander))
    others = sum(
        parameter.numel()
        for name, parameter in MM1ForConditionalGeneration(known).named_parameters()
        if "connector" not in name
    )
    assert before != after
    assert wider.num_parameters == others + after


@pytest.mark.parametrize("name", ["expander", "c_abstractr"])
def test_its_name_alone_is_refused_with_those_that_are_known(name):
    with pytest.raises(ConfigurationError, match=f"{NAME}.*average_pool.*attention_pool.*c_abstractor"):
        small_family("mm1_3b", f"{NAME}={name}")


def test_there_is_one_list_of_connectors(config):
    assert get_args(ConnectorConfig.model_fields["type"].annotation) == CONNECTOR_TYPES
    whole = model_config(config.model, config.sequence)
    built = set()
    for whole.connector_type in CONNECTOR_TYPES:
        with torch.device("meta"):
            built.add(type(build_connector(whole)))
    assert len(built) == len(CONNECTOR_TYPES)
