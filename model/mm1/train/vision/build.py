"""The model and the objective of stage vision.

MM1 model, model.clip or model.aim [, trainer state] -> TowerModel -> engine -> objective
"""

from __future__ import annotations

import torch

from mm1.checkpoint.pieces import StateReader
from mm1.manifests import DataMix
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.modeling.processing import MM1Processor
from mm1.train.config import RunConfig
from mm1.train.engine import Engine
from mm1.train.inputs import ModelInputs
from mm1.train.objective import StepObjective
from mm1.train.vision.aim import AimModel
from mm1.train.vision.clip import ClipModel
from mm1.train.vision.inputs import AimInputs, ClipInputs
from mm1.train.vision.objectives import AimObjective, ClipObjective
from mm1.train.vision.tower import TowerModel


def build_tower_model(
    config: RunConfig, mix: DataMix, whole: MM1ForConditionalGeneration, processor: MM1Processor, saved: StateReader | None
) -> TowerModel:
    """Build the model of stage vision; the temporary parts are the same on every rank.

    Args:
        config: the resolved run.
        mix: the mixture, which sets the image size.
        whole: the MM1 model; its tower is trained.
        processor: has the tokenizer.
        saved: trainer state to resume from; None = fresh temporary parts.

    Raises:
        ConfigurationError: the tower does not suit the objective.
        CheckpointError: the state lacks a temporary part.
    """
    torch.manual_seed(config.train.seed)
    if config.model.clip is not None:
        model: TowerModel = ClipModel(whole, config.model.clip, whole.config.text_config.vocab_size, end_id(processor))
    else:
        assert config.model.aim is not None, "checked by RunConfig"
        model = AimModel(whole, config.model.aim, mix.image_size_px)
    dtype = next(whole.parameters()).dtype
    for _, parameter in model.temporary():
        parameter.data = parameter.data.to(dtype)
    if saved is not None:
        model.load_temporary(saved)
    return model.train()


def build_tower_objective(
    config: RunConfig, mix: DataMix, model: TowerModel, processor: MM1Processor, engine: Engine, inputs: ModelInputs
) -> StepObjective:
    """Build the objective of stage vision.

    Args:
        config: the resolved run.
        mix: the mixture.
        model: from :func:`build_tower_model`.
        processor: has the tokenizer.
        engine: trains the model.
        inputs: prepares images.
    """
    image_id = model.config.image_token_id
    if isinstance(model, AimModel):
        return AimObjective(engine, AimInputs(inputs, image_id, model.num_patches))
    assert config.model.clip is not None, "a ClipModel has its section"
    pairs = ClipInputs(inputs, image_id, end_id(processor), config.model.clip.text_length)
    return ClipObjective(engine, pairs, engine.batch_plan.micro_batch * mix.max_images)


def end_id(processor: MM1Processor) -> int:
    """Return the token ID that ends documents."""
    return int(processor.tokenizer.eos_token_id)
