"""Loading of a model to evaluate."""

from __future__ import annotations

from pathlib import Path

from mm1.evals.models.base import EvalModel
from mm1.evals.models.config import ModelChoice


def load_model(choice: ModelChoice) -> EvalModel:
    """Load a model.

    Raises:
        ConfigurationError: it cannot be loaded with these settings.
        CheckpointError: a file is damaged, or tensors are missing.
        NetworkError: an address does not answer.
    """
    if choice.kind == "api":
        from mm1.evals.models.api import ApiModel

        return ApiModel.connect(choice)
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # the command shows its own
    if choice.kind == "transformers":
        from mm1.evals.models.transformers_model import TransformersModel

        return TransformersModel.load(Path(choice.name), choice.settings)
    return _own(choice)


def _own(choice: ModelChoice) -> EvalModel:
    from mm1.checkpoint.open import open_model
    from mm1.evals.models.own import OwnModel
    from mm1.generation.config import BatchSettings
    from mm1.generation.device import choose_device
    from mm1.generation.generator import Generator
    from mm1.generation.tiles import allow_tiles
    from mm1.lineage.signing import Signatures

    name, signatures = choice.digest if choice.store else choice.name, Signatures.of(choice.settings.verify_key)
    opened = open_model(name, choice.store, signatures, choose_device()[1])
    settings = BatchSettings(batch_size=choice.settings.batch_size)
    allow_tiles(opened.model, opened.processor, choice.settings.max_tiles)
    return OwnModel(Generator(opened.model, opened.processor, settings), choice.name)
