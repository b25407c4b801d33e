"""Training steps without data: the model of a recipe on an invented packed batch, for the GPU tier and its bench.

Names of dimensions: B sequences, S tokens of a sequence, N images.
"""

from __future__ import annotations

import gc
from itertools import pairwise

import torch

from mm1.config.resolve import resolve
from mm1.data.load.collate import PixelNorm
from mm1.modeling.configuration import MM1Config
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.recipes import registry
from mm1.train.batch_plan import plan_batch
from mm1.train.config import RunConfig, SequenceConfig
from mm1.train.engine import Engine
from mm1.train.flops import Work
from mm1.train.inputs import ModelInputs
from mm1.train.lora import with_adapters
from mm1.train.model import model_config
from mm1.train.objective import Objective
from mm1.train.optim import freeze, num_decoder_parameters
from mm1.train.recompute import recompute_activations
from mm1.train.schedule import learning_rate_law
from mm1.train.step import TrainStep
from tests.support.tiny_runs import one_process

SHRUNK = (
    "model.vision.hidden_size=32",
    "model.vision.num_layers=2",
    "model.vision.num_heads=2",
    "model.vision.ffn_size=64",
    "model.vision.patch_size_px=8",
    "model.connector.hidden_size=16",
    "model.connector.depth=1",
    "model.decoder.hidden_size=32",
    "model.decoder.num_layers=2",
    "model.decoder.num_heads=2",
    "model.decoder.num_kv_heads=1",
    "model.decoder.head_size=16",
    "model.decoder.ffn_size=64",
    "model.decoder.vocab_size=128",
    "sequence.length=64",
    "sequence.max_images=3",
    "sequence.image_size_px=24",
    "sequence.image_tokens=4",
    "train.micro_batch=1",
)
"""Overrides that make a recipe of the family small enough for any machine."""
ONE_STEP = ("train.global_batch=2", "train.zero_stage=1", "train.expert_parallel=1")
"""Overrides that make a step small enough for one process."""


def small_family(recipe: str, *overrides: str) -> RunConfig:
    """A recipe of the family at width 32, two sequences a step."""
    return resolve(registry.get(recipe), [*SHRUNK, *ONE_STEP, *overrides])


def document_lengths(sequence: SequenceConfig, documents: int) -> list[int]:
    """A sequence cut into documents of almost equal length, without padding."""
    ends = [sequence.length * number // documents for number in range(documents + 1)]
    return [end - start for start, end in pairwise(ends)]


def images_of_documents(sequence: SequenceConfig, documents: int) -> list[int]:
    """Images of each of those documents: all that a sequence may have, as far as they leave a token of text."""
    wanted = [sequence.max_images * (n + 1) // documents - sequence.max_images * n // documents for n in range(documents)]
    lengths = document_lengths(sequence, documents)
    return [min(count, (length - 1) // sequence.image_tokens) for count, length in zip(wanted, lengths, strict=True)]


def synthetic_batch(
    model: MM1Config, sequence: SequenceConfig, sequences: int, documents: int, seed: int = 0
) -> dict[str, torch.Tensor]:
    """A batch as the loader makes it: documents of random tokens, their images first."""
    generator = torch.Generator().manual_seed(seed)
    shape = (sequences, sequence.length)
    input_ids_BS = torch.randint(model.image_token_id + 1, model.text_config.vocab_size, shape, generator=generator)
    document_ids_BS, position_ids_BS = torch.zeros(shape, dtype=torch.int32), torch.zeros(shape, dtype=torch.long)
    start = 0
    images = images_of_documents(sequence, documents)
    for number, (length, count) in enumerate(zip(document_lengths(sequence, documents), images, strict=True), start=1):
        span = slice(start, start + length)
        document_ids_BS[:, span] = number
        position_ids_BS[:, span] = torch.arange(length)
        input_ids_BS[:, start : start + count * sequence.image_tokens] = model.image_token_id
        start += length
    pixels = (sequences * sum(images), 3, sequence.image_size_px, sequence.image_size_px)
    return {
        "input_ids": input_ids_BS,
        "labels": input_ids_BS.masked_fill(input_ids_BS == model.image_token_id, -100),
        "document_ids": document_ids_BS,
        "position_ids": position_ids_BS,
        "pixel_values": torch.randn(pixels, generator=generator),
        "source_ids": torch.zeros(sequences, dtype=torch.long),
    }


def work_of(batch: dict[str, torch.Tensor], documents: int, sequence: SequenceConfig) -> Work:
    """What a synthetic batch has in it, for the count of its arithmetic."""
    sequences = len(batch["input_ids"])
    lengths = document_lengths(sequence, documents) * sequences
    unpredicted = images_of_documents(sequence, documents)
    predicted = sum(
        length - max(1, count * sequence.image_tokens)  # a document's first token is predicted by nothing
        for length, count in zip(lengths, unpredicted * sequences, strict=True)
    )
    return Work.of_documents(lengths, predicted, len(batch["pixel_values"]))


def training_step(config: RunConfig, device: str) -> TrainStep:
    """A fresh model of a recipe on its engine, in this process alone."""
    one_process()
    torch.manual_seed(config.train.seed)
    with torch.device(device):
        model = MM1ForConditionalGeneration(model_config(config.model, config.sequence)).train()
    with_adapters(model, config.train.lora, config.train.seed)
    freeze(model, config.train.frozen)
    if config.train.gradient_checkpointing:
        recompute_activations(model)
    peak_lr = learning_rate_law(num_decoder_parameters(model)) if config.optim.lr == "law" else config.optim.lr
    batch_plan = plan_batch(config.train.global_batch, config.train.micro_batch, world_size=1)
    engine = Engine(model, peak_lr=peak_lr, optim=config.optim, train=config.train, batch_plan=batch_plan)
    inputs = ModelInputs(engine.device, PixelNorm([0.5] * 3, [0.5] * 3), None)
    objective = Objective(engine, inputs, "global_batch")
    return TrainStep(engine, ["synthetic"], objective, model.config.num_experts_per_tok if model.config.is_moe else 0)


def release(step: TrainStep) -> None:
    """Give the memory of a step's model and optimizer back; DeepSpeed's hooks and cycles would keep it for the next one."""
    step.engine._engine.destroy()
    step.engine = None  # type: ignore[assignment]
    gc.collect()
    torch.cuda.empty_cache()
