"""Train small models on invented batches as one rank, one case after the other: ``torchrun ... -m tests.support.rank_steps``.

    CASES.json (list of Case) -> for each: model, engine, steps -> RESULTS.jsonl of rank 0, a line for each finished case

Every collective is compared over the ranks before it is done, and has a short time limit: a rank that does another one, or
none, ends the program with an error that names it. The case is in the line before.

Names of dimensions: S tokens of a sequence.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import sys
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import distributed as dist

from mm1.data.load.collate import Batch, PixelNorm
from mm1.train.batch_plan import plan_batch
from mm1.train.config import OptimConfig, TrainConfig
from mm1.train.engine import Engine, start_processes
from mm1.train.inputs import ModelInputs, blank_image
from mm1.train.objective import Objective
from mm1.train.optim import freeze
from mm1.train.recompute import recompute_activations
from mm1.train.step import TrainStep
from tests.support.tiny_model import packed_batch, tiny_model

TIME_LIMIT = timedelta(seconds=20)
IMAGE_TOKENS = 4
DOCUMENT = 10
"""Tokens of a document; its image comes first."""


@dataclass
class Case:
    """Two steps of four sequences, a micro-batch of one each."""

    sequences: tuple[str, ...] = ("text", "text", "image", "images")
    """Each sequence: its documents' images (`text` none, `image` one, `images` three), `unlabelled` text, or `padding`."""
    frozen: tuple[str, ...] = ()
    stage: int = 0
    tower_px: int = 32
    """Size of the tower's own position embeddings; the images have 32 pixels."""
    moe: bool = False
    expert_parallel: int = 1
    single_experts: bool = False
    """Whether all tokens are routed to the same experts."""
    checkpointing: bool = False
    tied: bool = False
    vision: str = "clip"
    connector: str = "c_abstractor"
    images: bool = True
    """Whether the mixture has images."""
    blank: bool = True
    """Whether sequences without images get a blank one, as they should."""
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)


def sequence_of(kind: str, seed: int) -> Batch:
    """A micro-batch of one sequence of three documents."""
    documents = {"image": [True, False, False], "images": [True] * 3}.get(kind, [False] * 3)
    batch = packed_batch([[DOCUMENT] * len(documents)], images=False, seed=seed)
    for number, has_image in enumerate(documents):
        if has_image:
            image = slice(number * DOCUMENT, number * DOCUMENT + IMAGE_TOKENS)
            batch["input_ids"][0, image], batch["labels"][0, image] = 1, -100
    if kind in ("unlabelled", "padding"):
        batch["labels"].fill_(-100)
    if kind == "padding":
        for name in ("input_ids", "position_ids", "document_ids"):
            batch[name].zero_()
    if sum(documents):
        pixels = torch.randint(0, 256, (sum(documents), 32, 32, 3), generator=torch.Generator().manual_seed(seed))
        batch["pixel_values"] = pixels.to(torch.uint8)
    return batch | {"source_ids": torch.zeros(1, dtype=torch.long)}


def train(case: Case, rank: int, world_size: int) -> Case:
    """Do the steps of a case, with its losses and gradient norms."""
    model = tiny_model(case.connector, case.vision, case.moe, text={"tie_word_embeddings": case.tied}, tower_px=case.tower_px)
    model.train()
    if case.single_experts:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("mlp.gate.weight"):
                    parameter.zero_()  # equal scores: the first experts win
    freeze(model, case.frozen)
    if case.checkpointing:
        recompute_activations(model)
    blank = blank_image(model, SimpleNamespace(has_images=case.images, image_size_px=32)) if case.blank else None
    shared, stage = (case.expert_parallel, case.stage) if world_size > 1 else (1, 0)
    settings = {"steps": 2, "global_batch": 4, "micro_batch": 1, "checkpoint_every": 2, "zero_stage": stage}
    train_config = TrainConfig(**settings, expert_parallel=shared)
    plan = plan_batch(4, 1, world_size)
    engine = Engine(model, peak_lr=1e-3, optim=OptimConfig(name="adamw"), train=train_config, batch_plan=plan)
    inputs = ModelInputs(engine.device, PixelNorm([0.5] * 3, [0.25] * 3), blank)
    step = TrainStep(
        engine, ["invented"], Objective(engine, inputs, "global_batch"), model.config.num_experts_per_tok if case.moe else 0
    )
    share = len(case.sequences) // world_size
    for number in range(2):
        batches = [sequence_of(kind, 10 * number + place) for place, kind in enumerate(case.sequences)]
        result = step(batches[rank * share : (rank + 1) * share], rate_factor=1.0)
        case.losses.append(result.loss)
        case.norms.append(result.grad_norm)
    engine._engine.destroy()
    return case


def main() -> None:
    """Train the cases of a file."""
    import deepspeed

    gc.collect()
    gc.freeze()  # DeepSpeed collects garbage dozens of times for an engine
    faulthandler.enable()
    torch.set_num_threads(1)
    dist.set_debug_level(dist.DebugLevel.DETAIL)
    dist.distributed_c10d.default_pg_timeout = TIME_LIMIT  # of the groups of experts
    deepspeed.init_distributed(dist_backend="gloo", timeout=TIME_LIMIT, verbose=False)
    rank, world_size = start_processes()
    cases, results = map(Path, sys.argv[1:])
    with results.open("w") as output:
        for fields in json.loads(cases.read_text()):
            case = Case(**fields)
            print(f"rank {rank} of {world_size}: {case}", file=sys.stderr, flush=True)
            case = train(case, rank, world_size)
            if rank == 0:
                output.write(json.dumps(asdict(case)) + "\n")
                output.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
