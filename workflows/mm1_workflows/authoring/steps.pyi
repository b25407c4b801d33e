"""The steps of this project. Made from their declarations by `mm1 compile`; do not edit."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

from hera.workflows import Parameter, Task

from mm1_workflows.authoring.declarations import declaration as declaration
from mm1_workflows.authoring.tasks import given as given
from mm1_workflows.authoring.tasks import task as task

_Text: TypeAlias = str | Parameter
"""Text, which may hold references, or a parameter of a task or workflow."""

def check_data(
    *,
    data: _Text,
    sources: _Text = "captions interleaved text",
    min_samples: int | _Text = 1,
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """Say whether enough data came since the last mixture to train again.

    Args:
        data: RawData as it is now [required]
        sources: sources of the mixture, separated by spaces [default: captions interleaved text]
        min_samples: new samples that make training again worth while [default: 1]
        name: name of the task; by default the step's
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: a task per item, which inputs name as {{item}}
        with_items: list of strings, likewise

    Outputs:
        decision: retrain or wait
        new_shards: shards that came after the last mixture
        new_samples: samples in them
    """

def data_mix(
    *,
    data: _Text,
    weights: _Text = "mm1",
    weights_by: Literal["sequence", "token"] | _Text = "sequence",
    synthetic_share: float | _Text = 0.07,
    sequence_length: int | _Text = 128,
    max_images: int | _Text = 24,
    image_tokens: int | _Text = 4,
    image_size: int | _Text = 32,
    one_source: bool | _Text = True,
    long_documents: Literal["cut", "drop"] | _Text = "cut",
    max_epochs: float | _Text = 0.0,
    thresholds: _Text = "",
    as_of: _Text = "",
    seed: int | _Text = 0,
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """Freeze a mixture of sources: weights, order, packing limits; measures fill and epochs.

    Args:
        data: RawData to mix [required]
        weights: share of each source, captions=0.45,interleaved=0.45,text=0.10 (only the ratios matter), or mm1, mm1.5
            [default: mm1]
        weights_by: what the weights are shares of [default: sequence]
        synthetic_share: share of the captions that are of the source synthetic, where the data have it [default: 0.07]
        sequence_length: tokens of a packed sequence [default: 128]
        max_images: images of a packed sequence at most (MM1: 16 in 4096 tokens) [default: 24]
        image_tokens: tokens that stand for one image [default: 4]
        image_size: side of the square images that the model gets, in pixels [default: 32]
        one_source: false: documents of several sources may share a sequence [default: true]
        long_documents: what happens to documents longer than a sequence [default: cut]
        max_epochs: how often training may go through a source at most; 0 = without bound [default: 0.0]
        thresholds: what a shard must be to enter, for example quality>=0.5 duplicate_rate<=0.2 [default: empty]
        as_of: time whose knowledge of the shards counts (ISO 8601); empty = now [default: empty]
        seed: seed of the order of samples [default: 0]
        name: name of the task; by default the step's
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: a task per item, which inputs name as {{item}}
        with_items: list of strings, likewise

    Outputs:
        manifest: DataMix
    """

def deploy(
    *,
    checkpoint: _Text,
    decision: _Text = "pass",
    question: _Text = "",
    benchmarks: _Text = "world:0",
    split: _Text = "test",
    question_task: _Text = "instruct",
    image: _Text = "",
    max_tokens: int | _Text = 64,
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """Export a checkpoint, prove that the export is the same model, and let the server answer once.

    Args:
        checkpoint: Checkpoint to deploy [required]
        decision: outcome of the gate; anything but pass deploys nothing and ends well [default: pass]
        question: chat question put to the served model; empty: the first one of the task [default: empty]
        benchmarks: benchmark folder that the image of the question is taken from [default: world:0]
        split: subfolder of benchmarks [default: test]
        question_task: task whose first item gives image and question [default: instruct]
        image: image file of the question, in place of one from benchmarks [default: empty]
        max_tokens: tokens of the answer at most [default: 64]
        name: name of the task; by default the step's
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: a task per item, which inputs name as {{item}}
        with_items: list of strings, likewise

    Outputs:
        manifest: Deployment
        deployed: whether there is a model to serve
    """

def evaluate(
    *,
    checkpoint: _Text,
    benchmarks: _Text = "world:0",
    split: _Text = "test",
    tasks: _Text = "captions captions_heldout vqa vqa_heldout vague novel text",
    shots: _Text = "0 4 8",
    items: int | _Text = 256,
    controls: bool | _Text = True,
    style: Literal["plain", "chat"] | _Text = "plain",
    question_template: _Text = "{question} {answer} .",
    caption_template: _Text = "a photo of {caption} .",
    batch_size: int | _Text = 64,
    seed: int | _Text = 0,
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """Score a checkpoint on benchmark files, few-shot.

    Args:
        checkpoint: Checkpoint to score [required]
        benchmarks: folder with a subfolder per split: VQAv2, COCO-caption and jsonl files, and images/ [default: world:0]
        split: subfolder of benchmarks; choose settings on dev only [default: test]
        tasks: tasks, separated by spaces; name@0,4 sets the shots of one task; any <name>_questions.json is one [default:
            captions captions_heldout vqa vqa_heldout vague novel text]
        shots: numbers of demonstrations, separated by spaces [default: 0 4 8]
        items: items per task, drawn without repetition [default: 256]
        controls: also ask with the query image swapped with another item's [default: true]
        style: plain: prompt templates; chat: the model's chat template [default: plain]
        question_template: plain style, after an image: question and answer [default: {question} {answer} .]
        caption_template: plain style, after an image: its caption [default: a photo of {caption} .]
        batch_size: prompts in one batch [default: 64]
        seed: seed of items, demonstrations and swaps [default: 0]
        name: name of the task; by default the step's
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: a task per item, which inputs name as {{item}}
        with_items: list of strings, likewise

    Outputs:
        manifest: EvalReport
    """

def gate(
    *,
    reports: _Text,
    rules: _Text = "captions/0/content_f1>=0.5 vague/4/accuracy>=0.5",
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """Decide by rules on its scores whether a checkpoint may be deployed.

    Args:
        reports: EvalReport addresses, separated by spaces; that of the checkpoint to deploy last: where several hold a
            score, the last counts [required]
        rules: rules task/shots/metric>=number, separated by spaces; all must hold [default: captions/0/content_f1>=0.5
            vague/4/accuracy>=0.5]
        name: name of the task; by default the step's
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: a task per item, which inputs name as {{item}}
        with_items: list of strings, likewise

    Outputs:
        manifest: GateDecision
        decision: pass or fail
    """

def ingest(
    *,
    captions: _Text = "",
    synthetic: _Text = "",
    interleaved: _Text = "",
    text: _Text = "",
    instructions: _Text = "",
    data: _Text = "",
    tokenizer: _Text = "train",
    preset: _Text = "paper",
    vocabulary: int | _Text = 1024,
    remote: Literal["refuse", "fetch", "fetch-private"] | _Text = "refuse",
    part_bytes: int | _Text = 512000000,
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """Filter raw data, write shards with an index, count tokens; trains the tokenizer where none is given.

    Args:
        captions: image-caption pairs: img2dataset tars, parquet or files [default: empty]
        synthetic: pairs with rewritten captions, in the same formats [default: empty]
        interleaved: documents of images and text: OBELICS parquet or MMC4 jsonl [default: empty]
        text: text documents: jsonl (plain, .gz, .zst) or parquet with a field text [default: empty]
        instructions: conversations: LLaVA json or jsonl with its images beside [default: empty]
        data: RawData that exists already (made on many machines); nothing is ingested [default: empty]
        tokenizer: train (a byte-level BPE on these data), a Hugging Face folder, or a RawData, DataMix, Checkpoint manifest
            [default: train]
        preset: filter preset: paper, obelics or toy [default: paper]
        vocabulary: tokens of a trained tokenizer [default: 1024]
        remote: images with http(s) addresses: refuse, fetch them, or fetch also from private networks [default: refuse]
        part_bytes: raw bytes of a part, about; a larger file is a part of its own [default: 512000000]
        name: name of the task; by default the step's
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: a task per item, which inputs name as {{item}}
        with_items: list of strings, likewise

    Outputs:
        manifest: RawData
    """

def ingest_collect(
    *,
    merged: _Text,
    parts: _Text,
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """Put the sharded parts together into the ingested data.

    Args:
        merged: MergedParts of all parts [required]
        parts: addresses of all ShardedParts: a JSON list, or separated by spaces [required]
        name: name of the task; by default the step's
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: a task per item, which inputs name as {{item}}
        with_items: list of strings, likewise

    Outputs:
        manifest: RawData
    """

def ingest_filter(
    *,
    part: _Text,
    captions: _Text = "",
    synthetic: _Text = "",
    interleaved: _Text = "",
    text: _Text = "",
    instructions: _Text = "",
    tokenizer: _Text = "train",
    preset: _Text = "paper",
    remote: Literal["refuse", "fetch", "fetch-private"] | _Text = "refuse",
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """Read and filter one part of the raw data.

    Args:
        captions: image-caption pairs: img2dataset tars, parquet or files [default: empty]
        synthetic: pairs with rewritten captions, in the same formats [default: empty]
        interleaved: documents of images and text: OBELICS parquet or MMC4 jsonl [default: empty]
        text: text documents: jsonl (plain, .gz, .zst) or parquet with a field text [default: empty]
        instructions: conversations: LLaVA json or jsonl with its images beside [default: empty]
        part: RawPart to read [required]
        tokenizer: train (a byte-level BPE on these data), a Hugging Face folder, or a RawData, DataMix, Checkpoint manifest
            [default: train]
        preset: filter preset: paper, obelics or toy [default: paper]
        remote: images with http(s) addresses: refuse, fetch them, or fetch also from private networks [default: refuse]
        name: name of the task; by default the step's
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: a task per item, which inputs name as {{item}}
        with_items: list of strings, likewise

    Outputs:
        manifest: FilteredPart
    """

def ingest_merge(
    *,
    parts: _Text,
    tokenizer: _Text = "train",
    vocabulary: int | _Text = 1024,
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """Find duplicates over all filtered parts; train the tokenizer where none is given.

    Args:
        parts: addresses of all FilteredParts: a JSON list, or separated by spaces [required]
        tokenizer: train (a byte-level BPE on these data), a Hugging Face folder, or a RawData, DataMix, Checkpoint manifest
            [default: train]
        vocabulary: tokens of a trained tokenizer [default: 1024]
        name: name of the task; by default the step's
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: a task per item, which inputs name as {{item}}
        with_items: list of strings, likewise

    Outputs:
        manifest: MergedParts
    """

def ingest_plan(
    *,
    captions: _Text = "",
    synthetic: _Text = "",
    interleaved: _Text = "",
    text: _Text = "",
    instructions: _Text = "",
    part_bytes: int | _Text = 512000000,
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """List raw files and group them into parts for the mappers of ingest.

    Args:
        captions: image-caption pairs: img2dataset tars, parquet or files [default: empty]
        synthetic: pairs with rewritten captions, in the same formats [default: empty]
        interleaved: documents of images and text: OBELICS parquet or MMC4 jsonl [default: empty]
        text: text documents: jsonl (plain, .gz, .zst) or parquet with a field text [default: empty]
        instructions: conversations: LLaVA json or jsonl with its images beside [default: empty]
        part_bytes: raw bytes of a part, about; a larger file is a part of its own [default: 512000000]
        name: name of the task; by default the step's
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: a task per item, which inputs name as {{item}}
        with_items: list of strings, likewise

    Outputs:
        parts: JSON list of RawPart addresses
    """

def ingest_shard(
    *,
    merged: _Text,
    part: _Text,
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """Write the shards of one part, without duplicates.

    Args:
        merged: MergedParts of all parts [required]
        part: RawPart to make the shards of [required]
        name: name of the task; by default the step's
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: a task per item, which inputs name as {{item}}
        with_items: list of strings, likewise

    Outputs:
        manifest: ShardedPart
    """

def pretrain(
    *,
    data: _Text,
    recipe: _Text,
    init: _Text = "",
    vision: _Text = "",
    decoder: _Text = "",
    overrides: _Text = "",
    processes: int | _Text = 0,
    nodes: int | _Text = 1,
    pool: _Text = "",
    seed: int | _Text = 0,
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """Train a recipe on a mixture: the text base, or image and text.

    Args:
        data: DataMix to train on [required]
        recipe: recipe by name; `mm1 recipes` lists them [required]
        init: Checkpoint whose weights to start from; empty = fresh weights [default: empty]
        vision: folder of a vision tower in Hugging Face layout; empty = that of the recipe or of init [default: empty]
        decoder: folder of a causal decoder in Hugging Face layout; in the text stage it is published without training
            [default: empty]
        overrides: overrides of the recipe separated by spaces, for example train.steps=20 [default: empty]
        processes: trainer processes (ranks) of one node; 0 = one per GPU, or one without GPUs [default: 0]
        nodes: nodes; on one machine their processes run side by side [default: 1]
        pool: pool of nodes on a cluster; empty = the profile's for training [default: empty]
        seed: seed of fresh weights [default: 0]
        name: name of the task; by default the step's
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: a task per item, which inputs name as {{item}}
        with_items: list of strings, likewise

    Outputs:
        manifest: address of the finished Checkpoint manifest
    """

def report(
    *,
    status: _Text = "",
    title: _Text = "",
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """Make one HTML report of the run.

    Args:
        status: how the engine says that the run ended, for example Succeeded or Failed; may be empty [default: empty]
        title: heading of the page; empty: the run's name [default: empty]
        name: name of the task; by default the step's
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: a task per item, which inputs name as {{item}}
        with_items: list of strings, likewise

    Outputs:
        manifest: address of the ReportPage manifest
    """

def sft(
    *,
    data: _Text,
    init: _Text,
    recipe: _Text,
    overrides: _Text = "",
    processes: int | _Text = 0,
    nodes: int | _Text = 1,
    pool: _Text = "",
    seed: int | _Text = 0,
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """Fine-tune a checkpoint on instructions.

    Args:
        data: DataMix of instructions [required]
        init: Checkpoint whose weights to start from [required]
        recipe: recipe by name; `mm1 recipes` lists them [required]
        overrides: overrides of the recipe separated by spaces, for example train.steps=20 [default: empty]
        processes: trainer processes (ranks) of one node; 0 = one per GPU, or one without GPUs [default: 0]
        nodes: nodes; on one machine their processes run side by side [default: 1]
        pool: pool of nodes on a cluster; empty = the profile's for training [default: empty]
        seed: seed of the run [default: 0]
        name: name of the task; by default the step's
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: a task per item, which inputs name as {{item}}
        with_items: list of strings, likewise

    Outputs:
        manifest: address of the finished Checkpoint manifest
    """
