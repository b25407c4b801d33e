"""Parameters shared by several workflow files: plain Hera parameters in groups.

::

    with Workflow(generate_name="mm1-tune-", entrypoint="tune", arguments=[*MIXING, *RANKS, SEED, ...]) as w:
        with DAG(name="tune"):
            mix = steps.data_mix(data=..., **steps.given(*MIXING, SEED))

A parameter whose default differs between workflows is declared in their files.
"""

from __future__ import annotations

from hera.workflows import Parameter

CAPTIONS = Parameter(
    name="captions",
    value="world:0",
    description="image-caption pairs: img2dataset, webdataset, Hugging Face tables, CSV, JSON or files; world:<seed> = the "
    "generated toy world",
)
SOURCES = (
    CAPTIONS,
    Parameter(
        name="interleaved",
        value="world:0",
        description="documents of images and text: OBELICS or MMC4; world:<seed> = the toy world",
    ),
    Parameter(
        name="text",
        value="world:0",
        description="text documents: JSON lines, parquet or Arrow, compressed or not; world:<seed> = the toy world",
    ),
)
"""Raw data for pre-training; the toy world by default."""

SYNTHETIC = Parameter(
    name="synthetic", value="", description="pairs with rewritten captions, in the formats of captions; empty = none"
)
INSTRUCTIONS = Parameter(
    name="instructions",
    value="world:0",
    description="conversations: LLaVA, ShareGPT, OpenAI messages or the_cauldron; JSON or parquet; world:<seed> = the toy "
    "world",
)
DATA = Parameter(name="data", value="", description="address of RawData to use instead of ingesting; empty = ingest")
PRESET = Parameter(
    name="preset",
    value="auto",
    description="filter preset: paper, obelics, toy, or auto (toy for the toy world, paper for all other data)",
)
READING = (
    Parameter(
        name="remote",
        value="refuse",
        enum=["refuse", "fetch", "fetch-private"],
        description="images with http(s) addresses: refuse, fetch, or fetch-private (also from private networks)",
    ),
    Parameter(
        name="columns",
        value="",
        description="names of columns or fields, for example captions.caption=TEXT captions.image=jpg; empty = usual names",
    ),
    Parameter(
        name="max_damaged_share",
        value="0.01",
        description="maximum share of rows of a source that cannot be read; more end the step",
    ),
)
"""How raw files are read."""
TOKENIZER = (
    Parameter(
        name="tokenizer",
        value="train",
        description="train (a byte-level BPE on this data), a Hugging Face folder, the address of a RawData, DataMix or "
        "Checkpoint manifest, or serving:<target> (that of the served model; train if nothing is served)",
    ),
    Parameter(name="vocabulary", value="1024", description="vocabulary size of a trained tokenizer"),
)

THRESHOLDS = Parameter(
    name="thresholds",
    value="quality>=0.1",
    description="conditions that a shard's features must meet, separated by spaces",
)
AS_OF = Parameter(
    name="as_of",
    value="",
    description="use the shards' features as of this time (ISO 8601); empty = now",
)
SEQUENCES = (
    Parameter(
        name="holdout",
        value="0.01",
        description="samples that never enter a mixture, for validation: a share of every source, such as 0.001, or "
        "captions=0.01,text=500; empty = none",
    ),
    Parameter(name="sequence_length", value="128", description="length of a packed sequence, in tokens"),
    Parameter(
        name="max_images", value="24", description="maximum number of images per packed sequence (MM1: 16 in 4,096 tokens)"
    ),
    Parameter(name="image_tokens", value="4", description="tokens per image"),
)
"""How a mixture packs sequences, without the size of the images."""
PACKING = (THRESHOLDS, AS_OF, *SEQUENCES)
"""How a mixture chooses shards and packs sequences, without the size of the images."""
IMAGE_SIZE = Parameter(name="image_size", value="32", description="height and width of the model's input images, in pixels")
MIXING = (*PACKING, IMAGE_SIZE)
"""How a mixture chooses shards and packs sequences."""
IMAGE_LAYOUT = Parameter(
    name="image_layout",
    value="single",
    description="division of images into tiles of image_size, which count as images: single, static (MM1) or dynamic (MM1.5)",
)

WEIGHTS = (
    Parameter(
        name="weights",
        value="mm1",
        description="weight of each source (captions=0.45,text=0.10,...; captions/cc12m is a subfolder), or mm1, mm1_5",
    ),
    Parameter(
        name="weights_by",
        value="sequence",
        enum=["sequence", "token", "image", "label", "sample"],
        description="unit that the weights are shares of; label = tokens with loss",
    ),
)
"""Shares of the sources in a mixture."""

PRETRAINING = (
    *WEIGHTS,
    Parameter(name="text_recipe", value="mm1_tiny_lm", description="recipe of the text base; `mm1 recipes` lists all"),
    Parameter(name="text_overrides", value="", description="overrides of the text base's recipe: path=value ..."),
    Parameter(
        name="decoder",
        value="",
        description="folder of a causal decoder in Hugging Face format, published as the text base without training; "
        "empty = train one",
    ),
    Parameter(name="recipe", value="mm1_tiny", description="recipe of pre-training on the mixture; `mm1 recipes` lists all"),
    Parameter(name="overrides", value="", description="overrides of the pre-training recipe: path=value ..."),
    Parameter(
        name="vision",
        value="",
        description="folder of a vision tower in Hugging Face format; empty = the recipe's",
    ),
)
"""Training of the text base, then on the mixture."""

RESUME = Parameter(
    name="resume",
    value="",
    description="address of a Checkpoint to continue with more steps and its optimizer state (train.keep_state); empty = none",
)

RANKS = (
    Parameter(
        name="nodes", value="1", description="number of training nodes; on one machine, their processes run side by side"
    ),
    Parameter(
        name="processes",
        value="0",
        description="training processes (ranks) per node; 0 = one per GPU, or one without GPUs",
    ),
    Parameter(name="pool", value="", description="node pool for training on a cluster; empty = the profile's training pool"),
)
"""Nodes and processes of training."""
DEVICE_HOURS = Parameter(
    name="device_hours",
    value="",
    description="device hours (wall time times processes) that training may spend in this run; then it saves a checkpoint and "
    "ends with exit code 88; empty = no limit",
)

BENCHMARKS = (
    Parameter(
        name="benchmarks",
        value="world:0",
        description="folder with a subfolder per split: VQAv2, COCO-caption and jsonl files, and images/; "
        "world:<seed> = the toy world",
    ),
    Parameter(name="split", value="test", description="subfolder of benchmarks; tune settings on dev only"),
    Parameter(name="items", value="256", description="items per task, sampled without replacement"),
)
"""Benchmarks for the evaluation of checkpoints."""

SEED = Parameter(name="seed", value="0", description="seed of data order, initialization and evaluation items")
SIGN_KEY = Parameter(
    name="sign_key", value="", description="private key (PEM) that signs the exported model; empty = it is not signed"
)
QUESTION = Parameter(
    name="question", value="", description="chat question for the served model; empty = the first question of the benchmark"
)
SFT_WEIGHTS = Parameter(
    name="sft_weights",
    value="sft",
    description="weight of each source in fine-tuning; sft = 70 % instructions, the rest the data of pre-training if it is "
    "given, which keeps what that taught; mm1_sft, mm1_5_sft = the sets of the papers, as folders of the instructions; "
    "instructions=1 = instructions alone",
)
SERVING = Parameter(
    name="serving",
    value="",
    description="model that is served, for rules with >=serving-margin: address of its EvalReport, GateDecision, Deployment, "
    "ExportedModel or Checkpoint; empty: first deployment",
)

TARGET = Parameter(
    name="target", value="mm1", description="serving target: the name under which the store records what is served"
)
ROLLOUT = (
    Parameter(
        name="deployment_name",
        value="",
        description="Deployment of this namespace that serves, such as mm1-serve; empty: the promotion is recorded only",
    ),
    Parameter(
        name="serving_target",
        value="deployment",
        enum=["deployment", "kserve"],
        description="what deployment_name is: deployment, or kserve: an InferenceService",
    ),
    Parameter(name="replicas_of_canary", value="1", description="pods of the canary; 0: promote without a canary"),
    Parameter(
        name="canary_weight",
        value="10",
        description="percentage of the requests for the canary, where the chart made an HTTPRoute",
    ),
    Parameter(name="canary_seconds", value="60", description="duration of the canary's analysis, in seconds"),
    Parameter(name="questions", value="12", description="number of image questions that the canary is asked in that time"),
    Parameter(
        name="compare_answers",
        value="true",
        description="whether the answer to the deployment's own question must be the recorded or the expected one",
    ),
    Parameter(
        name="max_error_rate",
        value="0.01",
        description="largest share of the canary's replies with a status of 500 or more",
    ),
    Parameter(
        name="ready_seconds",
        value="900",
        description="limit for a pod to load the model and become ready, in seconds",
    ),
)
"""How a deployed model replaces the one that is served."""
