"""The paper's family: MM1 of 1B, 3B, 7B and 30B, the two mixtures of experts, and supervised fine-tuning (arXiv 2403.09611).

From the paper's section 4: image encoder (ViT-H, 378 px), connector (C-Abstractor, 144 tokens), 4096 tokens and 16 images per
sequence, 512 sequences per step, 200,000 steps, learning rate by the law, 2,000 steps of warm-up, cosine decay to 10 %, weight
decay 0.1 times the learning rate, everything trained, experts; from its section 5: fine-tuning. The paper does not state
optimizer, betas and clipping of pre-training; AdamW with (0.9, 0.95) and clipping at 1 are the defaults of AXLearn, the library
that MM1 was trained with (apple/axlearn, axlearn/experiments/text/gpt/common.py, ``adamw_decoupled_learner_config``).

The paper states only the sizes of MM1's language models, not their shapes. The shapes chosen for the whole family:

- heads of 128 and 8 key-value heads, as in most published decoders and in Apple's on-device model (arXiv 2407.21075, table 1:
  26 layers of 3072, 24 query heads), whose depth, width and heads the 3B recipe shares;
- a vocabulary of 49,152: about that model's 49k, and a multiple of 128, so that output layers divide well;
- rotary base 500,000, as in that model: it costs nothing at 4096 tokens and leaves room for longer sequences, since a base
  cannot be changed later without further training;
- feed-forward layers of 2.7 to 3.5 times the width. They are most of a layer, and follow from the mixtures of experts: only
  with these do 64 experts in every 2nd layer of 3B give 64B parameters, and 32 in every 4th layer of 7B give 47B (section 4).

`docs/reference/recipes.md` has the table of counts. Memory: 18 bytes per parameter for bfloat16 weights, float32 gradients,
master weights and AdamW's moments, of which ZeRO partitions 12 at stage 1, 16 at 2, all at 3. Activations are recomputed, so
with the logits of text-only sequences they stay below 20 GB. By this estimate the recipes fit GPUs of 80 GB: 1B a single
one, 3B and 7B one node of eight, 30B two nodes, the mixtures of experts four.
"""

from __future__ import annotations

from mm1.train.config import (
    AimConfig,
    ClipConfig,
    ConnectorConfig,
    DecoderConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    ScheduleConfig,
    SequenceConfig,
    Stage,
    TrainConfig,
    VisionConfig,
)

VIT_H = VisionConfig(hidden_size=1280, num_layers=32, num_heads=16, ffn_size=5120, patch_size_px=14)
"""ViT-H/14, 632M parameters (mlfoundations/open_clip, src/open_clip/model_configs/ViT-H-14.json: heads of 80)."""
HONEYBEE = ConnectorConfig(type="c_abstractor", hidden_size=1024, depth=3, mlp_depth=2)
"""Honeybee's C-Abstractor (arXiv 2312.06742, khanrc/honeybee); MM1's own width and depth are not published."""
LOADER_WORKERS = 8
"""Processes per GPU that read and decode: 8 decode about 4,000 images/s of 378 px, many times what a GPU trains on."""


def _decoder(hidden_size: int, num_layers: int, ffn_size: int, *, tie: bool = False) -> DecoderConfig:
    return DecoderConfig(
        hidden_size=hidden_size,
        num_layers=num_layers,
        num_heads=hidden_size // 128,
        num_kv_heads=8,
        head_size=128,
        ffn_size=ffn_size,
        vocab_size=49_152,
        tie_embeddings=tie,
        rope_theta=500_000.0,
    )


def _sequence(length: int, image_size_px: int = 378) -> SequenceConfig:
    return SequenceConfig(length=length, max_images=16, image_size_px=image_size_px, image_tokens=144)


def _tiled_sequence(length: int, image_layout: str) -> SequenceConfig:
    """Return sequences of images in tiles of 672 px; as many tiles as fit."""
    sizes = {"length": length, "max_images": length // 144, "image_size_px": 672, "image_tokens": 144}
    return SequenceConfig.model_validate(sizes | {"image_layout": image_layout})


def _pretraining(
    recipe: str,
    decoder: DecoderConfig,
    *,
    micro_batch: int,
    zero_stage: int,
    checkpoint_every: int,
    expert_parallel: int = 1,
) -> RunConfig:
    train = {
        "steps": 200_000,
        "global_batch": 512,
        "micro_batch": micro_batch,
        "dtype": "bfloat16",
        "zero_stage": zero_stage,
        "expert_parallel": expert_parallel,
        "checkpoint_every": checkpoint_every,
        "validate_every": 1000,
        "gradient_checkpointing": True,
        "loader_workers": LOADER_WORKERS,
    }
    return RunConfig(
        recipe=recipe,
        stage="pretrain",
        model=ModelConfig(vision=VIT_H, connector=HONEYBEE, decoder=decoder),
        optim=OptimConfig(name="adamw", lr="law", betas=(0.9, 0.95), weight_decay=0.1, clip=1.0),
        schedule=ScheduleConfig(warmup_steps=2000, final_share=0.1),
        train=TrainConfig.model_validate(train),
        sequence=_sequence(4096),
    )


def mm1_clip() -> RunConfig:
    """MM1's vision tower, ViT-H, trained to match images with their captions (CLIP); the decoder comes from `init`.

    From CLIP (arXiv 2103.00020): 32,768 pairs per step (2,048 sequences of 16), AdamW with (0.9, 0.98) and 1e-6, weight decay
    0.2, 2,000 steps of warm-up (table 18), cosine decay (2.5), 4e-4, the rate of its ViT-L/14 (table 20). OpenCLIP trained a
    ViT-H/14 at 5e-4 with 79,104 pairs per step (LAION-AI/scaling-laws-openclip, trained_models_info.csv). The text tower and
    its outputs of 1024 are those of DFN5B-CLIP-ViT-H-14, Apple's published ViT-H of 224 px (mlfoundations/open_clip,
    src/open_clip/model_configs/ViT-H-14-quickgelu.json).

    Ours: clipping at 1, the decay to 0, which is OpenCLIP's, and 150,000 steps, one pass over the 5 billion pairs of DFN-5B.
    Apple's tower saw 39 billion pairs at 224 px, then 5 billion at 378 px (README of open_clip). Pre-training interpolates the
    position embeddings to its size. The similarities of all pairs take about 20 GB of each GPU.
    """
    optim = OptimConfig(name="adamw", lr=4e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2, clip=1.0)
    return _tower(
        "mm1_clip",
        optim,
        steps=150_000,
        global_batch=2048,
        warmup_steps=2000,
        clip=ClipConfig(embedding_size=1024, text_hidden_size=1024, text_layers=24, text_heads=16, text_length=77),
    )


def mm1_aim() -> RunConfig:
    """MM1's vision tower, ViT-H, trained to predict the pixels of the next patch (AIM); the decoder comes from `init`.

    From AIM (arXiv 2401.08541): 500,000 steps of 4,096 images (256 sequences of 16) at 1e-3, those of AIM-0.6B (table 1, 5.1),
    a head of 12 blocks (4.2), cosine decay to 0 (figure 4); from its appendix D, as in lightly-ai/lightly
    (benchmarks/imagenet/vitb16/aim.py): AdamW with (0.9, 0.95), weight decay 0.05, clipping at 1, 31,250 steps of warm-up,
    224 px.

    Ours: the ViT-H of :func:`mm1_clip`, 32 layers of 1280 with 16 heads, for a comparison at equal size. AIM-0.6B has 24 layers
    of 1536 with 12 heads (apple/ml-aim, aim-v1/aim/v1/torch/models.py), and a head 2048 wide (5.2), not as wide as the tower.
    """
    optim = OptimConfig(name="adamw", lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05, clip=1.0)
    return _tower("mm1_aim", optim, steps=500_000, global_batch=256, warmup_steps=31_250, aim=AimConfig(head_layers=12))


def _tower(
    recipe: str,
    optim: OptimConfig,
    *,
    steps: int,
    global_batch: int,
    warmup_steps: int,
    clip: ClipConfig | None = None,
    aim: AimConfig | None = None,
) -> RunConfig:
    """Return a stage that trains the tower alone; each checkpoint contains the decoder, so they are far apart."""
    return RunConfig(
        recipe=recipe,
        stage="vision",
        model=ModelConfig(vision=VIT_H, connector=HONEYBEE, clip=clip, aim=aim),
        optim=optim,
        schedule=ScheduleConfig(warmup_steps=warmup_steps, final_share=0.0),
        train=TrainConfig(
            steps=steps,
            global_batch=global_batch,
            micro_batch=4,
            dtype="bfloat16",
            zero_stage=2,
            checkpoint_every=2000,
            validate_every=2000,
            gradient_checkpointing=True,
            loader_workers=LOADER_WORKERS,
        ),
        sequence=_sequence(4096, image_size_px=224),
    )


def mm1_1b() -> RunConfig:
    """MM1 with a language model of 1.2B parameters, the size of the paper's ablations (3.1).

    24 layers of 2048. The embeddings are tied: separate ones would be a sixth of the model.
    """
    decoder = _decoder(2048, 24, 5632, tie=True)
    return _pretraining("mm1_1b", decoder, micro_batch=4, zero_stage=2, checkpoint_every=500)


def mm1_3b() -> RunConfig:
    """MM1-3B: 26 layers of 3072, the depth, width and heads of Apple's published on-device model."""
    return _pretraining("mm1_3b", _decoder_3b(), micro_batch=2, zero_stage=2, checkpoint_every=500)


def mm1_7b() -> RunConfig:
    """MM1-7B: 32 layers of 4096, with the wide feed-forward layers that its experts need."""
    return _pretraining("mm1_7b", _decoder_7b(), micro_batch=1, zero_stage=2, checkpoint_every=500)


def mm1_30b() -> RunConfig:
    """MM1-30B: 60 layers of 6144, weights partitioned over all processes (ZeRO 3)."""
    return _pretraining("mm1_30b", _decoder(6144, 60, 21_504), micro_batch=1, zero_stage=3, checkpoint_every=200)


def mm1_3b_moe() -> RunConfig:
    """MM1-3B-MoE: 64 experts in every 2nd layer, top-2, 64B parameters; a dense text base is upcycled.

    Each expert is as wide as the dense layer. The eight processes of a node share the experts. The hyperparameters are those of
    the dense model, including the learning rate (MM1 4).
    """
    return _sparse("mm1_3b_moe", _decoder_3b(), num_experts=64, sparse_every=2)


def mm1_7b_moe() -> RunConfig:
    """MM1-7B-MoE: 32 experts in every 4th layer, top-2, 47B parameters; a dense text base is upcycled.

    See :func:`mm1_3b_moe`.
    """
    return _sparse("mm1_7b_moe", _decoder_7b(), num_experts=32, sparse_every=4)


def _decoder_3b() -> DecoderConfig:
    return _decoder(3072, 26, 8192)


def _decoder_7b() -> DecoderConfig:
    return _decoder(4096, 32, 13_312)


def _sparse(recipe: str, dense: DecoderConfig, *, num_experts: int, sparse_every: int) -> RunConfig:
    experts = {
        "num_experts": num_experts,
        "sparse_every": sparse_every,
        "experts_per_token": 2,
        "balance_loss_weight": 0.01,
        "z_loss_weight": 0.001,
    }
    # ZeRO 2: the gradients of experts are most of the memory, so the processes that hold the same experts partition them.
    return _pretraining(
        recipe, dense.model_copy(update=experts), micro_batch=1, zero_stage=2, checkpoint_every=200, expert_parallel=8
    )


def mm1_continual() -> RunConfig:
    """MM1.5's continual pre-training on text-rich images of high resolution, starting from the model in `init`.

    From MM1.5 (arXiv 2409.20566, 3.1 and 3.3): at most 30,000 steps of 256 sequences, Adafactor at 1e-5, cosine decay to 0, all
    parts trained; 45 million OCR samples (PDFA, IDL, RenderedText, DocStruct-4M) in equal shares; 1344 px in four tiles and an
    overview.

    Ours: images are not split into tiles, but have the size of one of MM1.5's tiles, 672 px; the tower and the C-Abstractor
    interpolate their position embeddings to it, and an image still takes 144 tokens. Sequences are those of pre-training, and
    the warm-up is 1 %. For memory see :func:`mm1_sft`.
    """
    return _handed_over(
        "mm1_continual",
        stage="pretrain",
        sequence=_sequence(4096, image_size_px=672),
        schedule=ScheduleConfig(warmup_steps=300, final_share=0.0),
        steps=30_000,
        micro_batch=1,
    )


def mm1_sft() -> RunConfig:
    """MM1's supervised fine-tuning on instructions, all parts trained, starting from the model in `init`.

    10,000 steps of 256 sequences of 2048 tokens, Adafactor at 1e-5, cosine decay (MM1 5); its end at 0 is that of MM1.5's
    continual pre-training. The paper states no warm-up; 3 % is that of LLaVA-1.5 (haotian-liu/LLaVA, scripts/v1_5/finetune.sh),
    whose data are part of MM1's. Nor does it state whether the rate is relative to the weights, which AXLearn's Adafactor asks
    for (``multiply_by_parameter_scale``). It is not here: a relative rate of 1e-5 moves a weight by at most 5 % of its size in
    the whole run, and one that starts at zero by 5e-5 (docs/reference/recipes.md has measurements). 30B needs
    ``train.zero_stage=3``.
    """
    return _handed_over(
        "mm1_sft",
        stage="sft",
        sequence=_sequence(2048),
        schedule=ScheduleConfig(warmup_steps=300, final_share=0.0),
        steps=10_000,
        micro_batch=4,
    )


def mm1_sft_1344() -> RunConfig:
    """MM1's fine-tuning at 1344 px: an overview and 2 x 2 crops of 672 px, 720 tokens an image.

    Everything else is as in :func:`mm1_sft` (MM1 5). A tile counts as an image: a sequence holds 14 of them.
    """
    return _handed_over(
        "mm1_sft_1344",
        stage="sft",
        sequence=_tiled_sequence(2048, "static"),
        schedule=ScheduleConfig(warmup_steps=300, final_share=0.0),
        steps=10_000,
        micro_batch=1,
    )


def mm1_5_sft() -> RunConfig:
    """MM1.5's fine-tuning: a grid of 4 to 9 tiles of 672 px that fits the image, and an overview, at most 1,440 tokens.

    From MM1.5 (arXiv 2409.20566, 3.1, 3.5, 4): 23,000 steps of 256 sequences, Adafactor at 2e-5, cosine decay; index marks
    before the tiles, overview last; samples of three images and more are not divided. Its mixture is ``weights=mm1_5_sft``.
    Ours: sequences of 4096 tokens, which hold two of the largest images, the decay to 0, and a warm-up of 3 %.
    """
    return _handed_over(
        "mm1_5_sft",
        stage="sft",
        sequence=_tiled_sequence(4096, "dynamic"),
        schedule=ScheduleConfig(warmup_steps=700, final_share=0.0),
        steps=23_000,
        micro_batch=1,
        lr=2e-5,
    )


def _handed_over(
    recipe: str,
    *,
    stage: Stage,
    sequence: SequenceConfig,
    schedule: ScheduleConfig,
    steps: int,
    micro_batch: int,
    lr: float = 1e-5,
) -> RunConfig:
    """Return a phase that gets its whole model from `init`, with the optimizer of fine-tuning."""
    return RunConfig(
        recipe=recipe,
        stage=stage,
        model=ModelConfig(),
        optim=OptimConfig(name="adafactor", lr=lr, parameter_scale=False, first_moment=0.0, weight_decay=0.0, clip=1.0),
        schedule=schedule,
        train=TrainConfig(
            steps=steps,
            global_batch=256,
            micro_batch=micro_batch,
            dtype="bfloat16",
            zero_stage=2,
            checkpoint_every=500,
            validate_every=500,
            gradient_checkpointing=True,
            loader_workers=LOADER_WORKERS,
        ),
        sequence=sequence,
    )
