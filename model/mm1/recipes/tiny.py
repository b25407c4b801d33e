"""The laptop family: a model of half a million parameters that learns the toy world in minutes.

Shapes and learning rates follow measurements on the toy world, where Muon needs a third of AdamW's steps; at these widths
float32 is as fast as bfloat16. Differences from the paper: Muon instead of AdamW, and separate learning rates (the paper's law
is fitted from 9 M parameters up). The same as in the paper: 45/45/10, loss masking, packing, schedule, balance loss and z-loss.
"""

from __future__ import annotations

from mm1.train.config import (
    AimConfig,
    ClipConfig,
    ConnectorConfig,
    DecoderConfig,
    LogConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    ScheduleConfig,
    TrainConfig,
    VisionConfig,
)

QUIET = LogConfig(wandb="off")
"""Starting wandb takes two seconds of processor time even offline: too much for runs of a minute, which have a report."""
MUON = OptimConfig(name="muon", lr=5e-3, betas=(0.9, 0.98), weight_decay=0.01)


def _vision() -> VisionConfig:
    return VisionConfig(
        hidden_size=64,
        num_layers=2,
        num_heads=2,
        ffn_size=128,
        patch_size_px=8,
        image_mean=(0.3, 0.3, 0.3),
        image_std=(0.3, 0.3, 0.3),
    )


def _decoder(num_experts: int = 0) -> DecoderConfig:
    return DecoderConfig(
        hidden_size=96,
        num_layers=4,
        num_heads=3,
        num_kv_heads=3,
        head_size=32,
        ffn_size=192,
        init="unit",
        num_experts=num_experts,
    )


def _model(num_experts: int = 0) -> ModelConfig:
    connector = ConnectorConfig(type="c_abstractor", hidden_size=64, depth=1)
    return ModelConfig(vision=_vision(), connector=connector, decoder=_decoder(num_experts))


def mm1_tiny_lm() -> RunConfig:
    """Text base of the laptop family: the decoder alone, before training on images."""
    return RunConfig(
        recipe="mm1_tiny_lm",
        stage="text",
        model=_model(),
        optim=MUON,
        schedule=ScheduleConfig(warmup_steps=30),
        train=TrainConfig(
            steps=600,
            global_batch=16,
            micro_batch=16,
            checkpoint_every=100,
            validate_every=100,
            frozen=(r"^model\.vision_tower\.", r"^model\.connector\."),
        ),
        log=QUIET,
    )


def mm1_tiny_clip() -> RunConfig:
    """Laptop vision tower, trained to match images with their captions (CLIP), before training on the mixture."""
    clip = ClipConfig(embedding_size=64, text_hidden_size=64, text_layers=2, text_heads=2, text_length=64)
    return _tower("mm1_tiny_clip", clip=clip)


def mm1_tiny_aim() -> RunConfig:
    """Laptop vision tower, trained to predict the pixels of the next patch (AIM), before training on the mixture."""
    return _tower("mm1_tiny_aim", aim=AimConfig(head_layers=2))


def _tower(recipe: str, *, clip: ClipConfig | None = None, aim: AimConfig | None = None) -> RunConfig:
    return RunConfig(
        recipe=recipe,
        stage="vision",
        model=_model().model_copy(update={"clip": clip, "aim": aim}),
        optim=MUON,
        schedule=ScheduleConfig(warmup_steps=30),
        train=TrainConfig(steps=300, global_batch=16, micro_batch=16, checkpoint_every=100, validate_every=100),
        log=QUIET,
    )


def mm1_tiny() -> RunConfig:
    """Laptop MM1: 45 % captions, 45 % interleaved, 10 % text, from a text base."""
    return RunConfig(
        recipe="mm1_tiny",
        stage="pretrain",
        model=_model(),
        optim=MUON,
        schedule=ScheduleConfig(warmup_steps=30),
        train=TrainConfig(steps=500, global_batch=16, micro_batch=16, checkpoint_every=100, validate_every=100),
        log=QUIET,
    )


def mm1_tiny_moe() -> RunConfig:
    """Laptop MM1 with 4 experts in every 2nd layer, top-2; a dense text base is upcycled."""
    base = mm1_tiny()
    return base.model_copy(update={"recipe": "mm1_tiny_moe", "model": _model(num_experts=4)})


def mm1_tiny_continual() -> RunConfig:
    """Laptop continual pre-training at a higher resolution, starting from the model in `init`.

    The phase of MM1.5 (arXiv 2409.20566) between pre-training and fine-tuning; its numbers are ours.
    """
    return RunConfig(
        recipe="mm1_tiny_continual",
        stage="pretrain",
        model=ModelConfig(),
        optim=MUON.model_copy(update={"lr": 1e-3}),
        schedule=ScheduleConfig(warmup_steps=10, final_share=0.0),
        train=TrainConfig(steps=100, global_batch=16, micro_batch=16, checkpoint_every=100),
        log=QUIET,
    )


def mm1_tiny_sft() -> RunConfig:
    """Laptop supervised fine-tuning on instructions, starting from the model in `init`."""
    return RunConfig(
        recipe="mm1_tiny_sft",
        stage="sft",
        model=ModelConfig(),
        optim=MUON.model_copy(update={"lr": 2e-3}),
        schedule=ScheduleConfig(warmup_steps=20),
        train=TrainConfig(steps=150, global_batch=16, micro_batch=16, checkpoint_every=100, validate_every=50),
        log=QUIET,
    )
