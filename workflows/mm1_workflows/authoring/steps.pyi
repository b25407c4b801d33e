"""The steps of this project. Generated from their declarations by `mm1 compile`; do not edit."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

from hera.workflows import Parameter, Task

from mm1_components.wrapper.registry import declaration as declaration
from mm1_workflows.authoring.tasks import given as given
from mm1_workflows.authoring.tasks import task as task

_Text: TypeAlias = str | Parameter
"""Text, which may contain references, or a parameter of a task or workflow."""

def acceptance(
    *,
    nodes: int | _Text = 1,
    processes: int | _Text = 0,
    pool: _Text = "",
    reduce_mb: int | _Text = 64,
    store_mb: int | _Text = 64,
    streams: int | _Text = 4,
    images_s: float | _Text = 1.0,
    min_all_reduce_gb_s: float | _Text = 0.0,
    min_node_all_reduce_gb_s: float | _Text = 0.0,
    min_write_mb_s: float | _Text = 0.0,
    min_read_mb_s: float | _Text = 0.0,
    min_images_s: float | _Text = 0.0,
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """Measure all-reduce, store and image decoding on the training nodes, and fail below thresholds.

    Args:
        nodes: number of nodes; on one machine, their processes run side by side [default: 1]
        processes: trainer processes (ranks) per node; 0 = one per GPU, or one without GPUs [default: 0]
        pool: node pool on a cluster; empty = the profile's training pool [default: empty]
        reduce_mb: size of the all-reduced tensor in MB; 0 = no all-reduce [default: 64]
        store_mb: size of an object in the store in MB; 0 = no reads and writes [default: 64]
        streams: concurrent writes and reads of a node, next to those of one stream [default: 4]
        images_s: seconds of image decoding; 0 = none [default: 1.0]
        min_all_reduce_gb_s: lowest bus bandwidth among all ranks, GB/s; 0 = only measure [default: 0.0]
        min_node_all_reduce_gb_s: lowest bus bandwidth among the ranks of a node, GB/s; 0 = only measure [default: 0.0]
        min_write_mb_s: lowest speed of a node's concurrent writes, MB/s; 0 = only measure [default: 0.0]
        min_read_mb_s: lowest speed of a node's concurrent reads, MB/s; 0 = only measure [default: 0.0]
        min_images_s: fewest images/s decoded by one core; 0 = only measure [default: 0.0]
        name: name of the task [default: the step's name]
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: runs the task for each item, {{item}} in inputs
        with_items: list of strings, in the same way

    Outputs:
        num_nodes: number of nodes that were measured
    """

def data_mix(
    *,
    data: _Text,
    weights: _Text = "mm1",
    weights_by: Literal["sequence", "token", "image", "label", "sample"] | _Text = "sequence",
    synthetic_share: float | _Text = 0.07,
    sequence_length: int | _Text = 128,
    max_images: int | _Text = 24,
    image_tokens: int | _Text = 4,
    image_size: int | _Text = 32,
    image_layout: _Text = "single",
    one_source: bool | _Text = True,
    cross_document_attention: bool | _Text = False,
    long_documents: Literal["cut", "drop"] | _Text = "cut",
    max_epochs: float | _Text = 0.0,
    holdout: _Text = "",
    thresholds: _Text = "",
    as_of: _Text = "",
    seed: int | _Text = 0,
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """Freeze a mixture of sources (weights, order, packing limits) and measure its fill and epochs.

    Args:
        data: RawData to mix [required]
        weights: weights, for example captions=0.45,interleaved=0.45,text=0.10 (only the ratios matter; captions/cc12m is
            the subfolder cc12m of the captions); or mm1, mm1_5, sft, mm1_sft, mm1_5_sft (sets of instructions), text, where
            the weight of a source that is not ingested goes to the others [default: mm1]
        weights_by: unit that the weights are shares of; label = tokens with loss; mm1_sft and mm1_5_sft: sample by default
            [default: sequence]
        synthetic_share: share of the captions that come from the source synthetic, if the data has it [default: 0.07]
        sequence_length: length of a packed sequence, in tokens [default: 128]
        max_images: maximum number of images in a packed sequence (MM1: 16 in 4096 tokens) [default: 24]
        image_tokens: tokens per image [default: 4]
        image_size: height and width of the model's input images, in pixels [default: 32]
        image_layout: division of images into tiles, each of image_size pixels and image_tokens tokens, which count as
            images: single = none; static = an overview and 2 x 2 crops (MM1); dynamic = a grid that fits the image, and an
            overview (MM1.5), with options such as dynamic,grid=4-9,marks=index,max_images=2 [default: single]
        one_source: false: documents of several sources may share a sequence [default: true]
        cross_document_attention: true: tokens attend to earlier documents of their sequence, which shows what isolation is
            worth [default: false]
        long_documents: how documents longer than a sequence are handled [default: cut]
        max_epochs: maximum number of epochs over any source; 0 = unlimited [default: 0.0]
        holdout: samples that never enter the mixture, for validation: a share of every source, such as 0.001, or
            captions=0.01,text=500 (shares or numbers of samples); empty = none [default: empty]
        thresholds: conditions that shards must meet, for example quality>=0.5 duplicate_rate<=0.2 [default: empty]
        as_of: use the shards' features as of this time (ISO 8601); empty = now [default: empty]
        seed: seed of the sample order [default: 0]
        name: name of the task [default: the step's name]
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: runs the task for each item, {{item}} in inputs
        with_items: list of strings, in the same way

    Outputs:
        manifest: DataMix
    """

def decide(
    *,
    data: _Text,
    sources: _Text = "captions interleaved text",
    target: _Text = "mm1",
    min_samples: int | _Text = 1,
    min_share: float | _Text = 0.0,
    max_drift: float | _Text = 0.0,
    max_age_days: float | _Text = 0.0,
    device_hours: _Text = "",
    period_days: float | _Text = 7.0,
    init: _Text = "",
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """Decide whether to train again: new data, their drift, the age of the served model, and a budget.

    Args:
        data: current RawData [required]
        sources: sources and sub-sources of the mixture, separated by spaces [default: captions interleaved text]
        target: what serves the model: lower-case letters, digits and '-' [default: mm1]
        min_samples: train again from this number of new samples on; 0 = off [default: 1]
        min_share: train again from this ratio of new samples to those of the last mixture on; 0 = off [default: 0.0]
        max_drift: train again if the population stability index of a statistic of the new shards is larger; 0.25 is a
            significant change; 0 = off [default: 0.0]
        max_age_days: train again if there are new samples and the served model is older, in days; 0 = off [default: 0.0]
        device_hours: device hours (wall time times processes) that a period's retrainings may spend; empty = no limit
            [default: empty]
        period_days: length of the budget's period, in days [default: 7.0]
        init: Checkpoint to continue from if nothing is served; empty = random initialization [default: empty]
        name: name of the task [default: the step's name]
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: runs the task for each item, {{item}} in inputs
        with_items: list of strings, in the same way

    Outputs:
        decision: retrain or wait
        reason: reason in a sentence, with its numbers
        new_shards: shards added since the last mixture
        new_samples: samples in them
        data: RawData to mix: the current one, or that of the retraining to continue
        as_of: time for the mixtures (ISO 8601)
        init: pre-trained Checkpoint to continue from; empty = random initialization
        serving: served Deployment; empty = none
        device_hours: device hours that are left of the budget; empty = no limit
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
    sign_key: _Text = "",
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """Export a checkpoint, verify that the export is the same model, and let the server answer one question.

    Args:
        checkpoint: Checkpoint to deploy [required]
        decision: decision of the gate; with any value but pass, the step succeeds and deploys nothing [default: pass]
        question: chat question for the served model; empty: the first question of the task [default: empty]
        benchmarks: benchmark folder with the image of the question [default: world:0]
        split: subfolder of benchmarks [default: test]
        question_task: task whose first item provides image and question [default: instruct]
        image: image file of the question, instead of one from benchmarks [default: empty]
        max_tokens: maximum number of tokens in the answer [default: 64]
        sign_key: private key (PEM, elliptic curve) that signs the exported folder, such as a mounted Secret; empty: none
            [default: empty]
        name: name of the task [default: the step's name]
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: runs the task for each item, {{item}} in inputs
        with_items: list of strings, in the same way

    Outputs:
        manifest: Deployment
        deployed: whether the model was deployed
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
    draws: int | _Text = 1,
    sub_images: bool | _Text = False,
    sub_image_shots: int | _Text = 0,
    max_tiles: int | _Text = 0,
    batch_size: int | _Text = 64,
    processes: int | _Text = 0,
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
        split: subfolder of benchmarks; tune settings on dev only [default: test]
        tasks: tasks, separated by spaces; name@0,4 sets the shots of one task; every <name>_questions.json is a task
            [default: captions captions_heldout vqa vqa_heldout vague novel text]
        shots: numbers of demonstrations, separated by spaces [default: 0 4 8]
        items: items per task, sampled without replacement [default: 256]
        controls: also evaluate with the query image replaced by another item's [default: true]
        style: plain: prompt templates; chat: the model's chat template [default: plain]
        question_template: plain style, after an image: question and answer [default: {question} {answer} .]
        caption_template: plain style, after an image: its caption [default: a photo of {caption} .]
        draws: draws of the demonstrations; scores are means over them [default: 1]
        sub_images: divide the query's images into the tiles of the model's layout, however many images a prompt has
            [default: false]
        sub_image_shots: last demonstrations whose images are divided as the query's [default: 0]
        max_tiles: tiles of an image at most, without the overview; 0 = as in the training [default: 0]
        batch_size: prompts per batch [default: 64]
        processes: processes that answer, with the same results; 0 = one per GPU [default: 0]
        seed: seed of items, demonstrations and swaps [default: 0]
        name: name of the task [default: the step's name]
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: runs the task for each item, {{item}} in inputs
        with_items: list of strings, in the same way

    Outputs:
        manifest: EvalReport
    """

def gate(
    *,
    reports: _Text,
    rules: _Text = "captions/0/content_f1>=0.5 vague/4/accuracy>=0.5",
    checkpoint: _Text = "",
    serving: _Text = "",
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """Decide whether a checkpoint may be deployed, by rules on its scores and a comparison with the serving model.

    Args:
        reports: EvalReport addresses, separated by spaces; only scores of the checkpoint to deploy count for the rules
            [required]
        rules: rules of the form task/shots/metric>=number, or >=serving-margin, separated by spaces; all must hold
            [default: captions/0/content_f1>=0.5 vague/4/accuracy>=0.5]
        checkpoint: Checkpoint to deploy; empty: that of the last report [default: empty]
        serving: model that is served, for rules with >=serving-margin: its EvalReport, or a GateDecision, Deployment,
            ExportedModel or Checkpoint in a store with its EvalReport; empty: first deployment [default: empty]
        name: name of the task [default: the step's name]
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: runs the task for each item, {{item}} in inputs
        with_items: list of strings, in the same way

    Outputs:
        manifest: GateDecision
        decision: pass or fail
    """

def ingest(
    *,
    remote: Literal["refuse", "fetch", "fetch-private"] | _Text = "refuse",
    columns: _Text = "",
    max_row_bytes: int | _Text = 67108864,
    captions: _Text = "",
    synthetic: _Text = "",
    interleaved: _Text = "",
    text: _Text = "",
    instructions: _Text = "",
    data: _Text = "",
    tokenizer: _Text = "train",
    preset: _Text = "auto",
    vocabulary: int | _Text = 1024,
    part_bytes: int | _Text = 64000000,
    max_damaged_share: float | _Text = 0.01,
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """Filter raw data, write shards with an index and count tokens; train a tokenizer if none is given.

    Args:
        remote: images with http(s) addresses: refuse, fetch, or fetch-private (also from private networks) [default:
            refuse]
        columns: names of columns or fields, for example captions.caption=TEXT captions.image=jpg; empty = usual names
            [default: empty]
        max_row_bytes: maximum size of a row, uncompressed; larger ones are dropped [default: 67108864]
        captions: image-caption pairs: img2dataset, webdataset, Hugging Face tables, CSV, JSON or files [default: empty]
        synthetic: pairs with rewritten captions, in the same formats [default: empty]
        interleaved: documents of images and text: OBELICS or MMC4 [default: empty]
        text: text documents: JSON lines, parquet or Arrow, compressed or not [default: empty]
        instructions: conversations: LLaVA, ShareGPT, OpenAI messages or the_cauldron; JSON or parquet [default: empty]
        data: existing RawData (for example made on many machines); nothing is ingested [default: empty]
        tokenizer: train (a byte-level BPE on this data), a Hugging Face folder, a RawData, DataMix or Checkpoint manifest,
            or serving:<target> (of the served model; train if nothing is served) [default: train]
        preset: filter preset: paper, obelics, toy, or auto (toy for the toy world, paper for all other data) [default:
            auto]
        vocabulary: vocabulary size of a trained tokenizer [default: 1024]
        part_bytes: approximate raw bytes per part [default: 64000000]
        max_damaged_share: maximum share of rows of a source that cannot be read; more end the step [default: 0.01]
        name: name of the task [default: the step's name]
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: runs the task for each item, {{item}} in inputs
        with_items: list of strings, in the same way

    Outputs:
        manifest: RawData
    """

def ingest_collect(
    *,
    plan: _Text,
    merged: _Text,
    batches: _Text,
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """Combine the sharded parts into the ingested data.

    Args:
        plan: IngestPlan [required]
        merged: MergedParts of all parts [required]
        batches: addresses of the ShardedParts of all batches: a JSON list, or separated by spaces [required]
        name: name of the task [default: the step's name]
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: runs the task for each item, {{item}} in inputs
        with_items: list of strings, in the same way

    Outputs:
        manifest: RawData
    """

def ingest_filter(
    *,
    plan: _Text,
    batch: int | _Text,
    remote: Literal["refuse", "fetch", "fetch-private"] | _Text = "refuse",
    columns: _Text = "",
    max_row_bytes: int | _Text = 67108864,
    captions: _Text = "",
    synthetic: _Text = "",
    interleaved: _Text = "",
    text: _Text = "",
    instructions: _Text = "",
    tokenizer: _Text = "train",
    preset: _Text = "auto",
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """Read and filter one batch of the raw data.

    Args:
        remote: images with http(s) addresses: refuse, fetch, or fetch-private (also from private networks) [default:
            refuse]
        columns: names of columns or fields, for example captions.caption=TEXT captions.image=jpg; empty = usual names
            [default: empty]
        max_row_bytes: maximum size of a row, uncompressed; larger ones are dropped [default: 67108864]
        captions: image-caption pairs: img2dataset, webdataset, Hugging Face tables, CSV, JSON or files [default: empty]
        synthetic: pairs with rewritten captions, in the same formats [default: empty]
        interleaved: documents of images and text: OBELICS or MMC4 [default: empty]
        text: text documents: JSON lines, parquet or Arrow, compressed or not [default: empty]
        instructions: conversations: LLaVA, ShareGPT, OpenAI messages or the_cauldron; JSON or parquet [default: empty]
        plan: IngestPlan [required]
        batch: number of the batch [required]
        tokenizer: train (a byte-level BPE on this data), a Hugging Face folder, a RawData, DataMix or Checkpoint manifest,
            or serving:<target> (of the served model; train if nothing is served) [default: train]
        preset: filter preset: paper, obelics, toy, or auto (toy for the toy world, paper for all other data) [default:
            auto]
        name: name of the task [default: the step's name]
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: runs the task for each item, {{item}} in inputs
        with_items: list of strings, in the same way

    Outputs:
        manifest: FilteredParts
    """

def ingest_merge(
    *,
    batches: _Text,
    tokenizer: _Text = "train",
    vocabulary: int | _Text = 1024,
    max_damaged_share: float | _Text = 0.01,
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """Find duplicates across all filtered parts; train a tokenizer if none is given.

    Args:
        batches: addresses of the FilteredParts of all batches: a JSON list, or separated by spaces [required]
        tokenizer: train (a byte-level BPE on this data), a Hugging Face folder, a RawData, DataMix or Checkpoint manifest,
            or serving:<target> (of the served model; train if nothing is served) [default: train]
        vocabulary: vocabulary size of a trained tokenizer [default: 1024]
        max_damaged_share: maximum share of rows of a source that cannot be read; more end the step [default: 0.01]
        name: name of the task [default: the step's name]
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: runs the task for each item, {{item}} in inputs
        with_items: list of strings, in the same way

    Outputs:
        manifest: MergedParts
    """

def ingest_plan(
    *,
    remote: Literal["refuse", "fetch", "fetch-private"] | _Text = "refuse",
    columns: _Text = "",
    max_row_bytes: int | _Text = 67108864,
    captions: _Text = "",
    synthetic: _Text = "",
    interleaved: _Text = "",
    text: _Text = "",
    instructions: _Text = "",
    part_bytes: int | _Text = 64000000,
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """List raw files and group them into parts for the mappers of ingest.

    Args:
        remote: images with http(s) addresses: refuse, fetch, or fetch-private (also from private networks) [default:
            refuse]
        columns: names of columns or fields, for example captions.caption=TEXT captions.image=jpg; empty = usual names
            [default: empty]
        max_row_bytes: maximum size of a row, uncompressed; larger ones are dropped [default: 67108864]
        captions: image-caption pairs: img2dataset, webdataset, Hugging Face tables, CSV, JSON or files [default: empty]
        synthetic: pairs with rewritten captions, in the same formats [default: empty]
        interleaved: documents of images and text: OBELICS or MMC4 [default: empty]
        text: text documents: JSON lines, parquet or Arrow, compressed or not [default: empty]
        instructions: conversations: LLaVA, ShareGPT, OpenAI messages or the_cauldron; JSON or parquet [default: empty]
        part_bytes: approximate raw bytes per part [default: 64000000]
        name: name of the task [default: the step's name]
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: runs the task for each item, {{item}} in inputs
        with_items: list of strings, in the same way

    Outputs:
        manifest: IngestPlan
        batches: JSON list of the batches' numbers
    """

def ingest_shard(
    *,
    merged: _Text,
    batch: int | _Text,
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """Write the shards of one batch of parts, without duplicates.

    Args:
        merged: MergedParts of all parts [required]
        batch: number of the batch [required]
        name: name of the task [default: the step's name]
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: runs the task for each item, {{item}} in inputs
        with_items: list of strings, in the same way

    Outputs:
        manifest: ShardedParts
    """

def pretrain(
    *,
    data: _Text,
    recipe: _Text,
    init: _Text = "",
    resume: _Text = "",
    vision: _Text = "",
    decoder: _Text = "",
    overrides: _Text = "",
    processes: int | _Text = 0,
    nodes: int | _Text = 1,
    pool: _Text = "",
    device_hours: _Text = "",
    seed: int | _Text = 0,
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """Train a recipe on a mixture: the text base, or image and text.

    Args:
        data: DataMix to train on [required]
        recipe: name of the recipe; `mm1 recipes` lists them [required]
        init: Checkpoint to initialize from; empty = random initialization [default: empty]
        resume: Checkpoint to continue with more steps: model, optimizer, counters and position in the data; empty = none
            [default: empty]
        vision: folder of a vision tower in Hugging Face format; empty = the tower of the recipe or of init [default: empty]
        decoder: folder of a causal decoder in Hugging Face format; in the text stage it is published without training
            [default: empty]
        overrides: overrides of recipe fields, separated by spaces, for example train.steps=20 [default: empty]
        processes: trainer processes (ranks) per node; 0 = one per GPU, or one without GPUs [default: 0]
        nodes: number of nodes; on one machine, their processes run side by side [default: 1]
        pool: node pool on a cluster; empty = the profile's training pool [default: empty]
        device_hours: device hours (wall time times processes) that this run may spend on the training, all its attempts
            together; then it saves a checkpoint and ends with exit code 88; empty = no limit [default: empty]
        seed: seed of the initialization [default: 0]
        name: name of the task [default: the step's name]
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: runs the task for each item, {{item}} in inputs
        with_items: list of strings, in the same way

    Outputs:
        manifest: address of the finished Checkpoint manifest
        device_hours_left: device hours that are left of the budget; empty = no limit
    """

def pretrain_vision(
    *,
    data: _Text,
    recipe: _Text,
    init: _Text = "",
    resume: _Text = "",
    overrides: _Text = "",
    processes: int | _Text = 0,
    nodes: int | _Text = 1,
    pool: _Text = "",
    device_hours: _Text = "",
    seed: int | _Text = 0,
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """Train the vision tower alone on images and captions: contrastive or pixels.

    Args:
        data: DataMix to train on; of captions, for example weights=captions=1 [required]
        recipe: name of the recipe; `mm1 recipes` lists them [required]
        init: Checkpoint of a text base, whose decoder is kept, or of a vision tower; empty = random initialization
            [default: empty]
        resume: Checkpoint to continue with more steps: model, optimizer, counters and position in the data; empty = none
            [default: empty]
        overrides: overrides of recipe fields, separated by spaces, for example train.steps=20 [default: empty]
        processes: trainer processes (ranks) per node; 0 = one per GPU, or one without GPUs [default: 0]
        nodes: number of nodes; on one machine, their processes run side by side [default: 1]
        pool: node pool on a cluster; empty = the profile's training pool [default: empty]
        device_hours: device hours (wall time times processes) that this run may spend on the training, all its attempts
            together; then it saves a checkpoint and ends with exit code 88; empty = no limit [default: empty]
        seed: seed of the initialization [default: 0]
        name: name of the task [default: the step's name]
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: runs the task for each item, {{item}} in inputs
        with_items: list of strings, in the same way

    Outputs:
        manifest: address of the finished Checkpoint manifest
        device_hours_left: device hours that are left of the budget; empty = no limit
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
    """Render an HTML report of the run, and notify a webhook.

    Args:
        status: status of the run according to the engine, for example Succeeded or Failed; may be empty [default: empty]
        title: title of the page; empty: the run's name [default: empty]
        name: name of the task [default: the step's name]
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: runs the task for each item, {{item}} in inputs
        with_items: list of strings, in the same way

    Outputs:
        manifest: address of the ReportPage manifest
    """

def rollout(
    *,
    deployment: _Text = "",
    decision: _Text = "pass",
    target: _Text = "mm1",
    deployment_name: _Text = "",
    serving_target: Literal["deployment", "kserve"] | _Text = "deployment",
    action: Literal["promote", "rollback"] | _Text = "promote",
    replicas_of_canary: int | _Text = 1,
    canary_weight: int | _Text = 10,
    canary_seconds: float | _Text = 60.0,
    questions: int | _Text = 12,
    compare_answers: bool | _Text = True,
    max_error_rate: float | _Text = 0.01,
    ready_seconds: float | _Text = 900.0,
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """Serve a deployed model after a canary has answered its image questions; go back if it fails.

    Args:
        deployment: Deployment to serve; empty, only for a rollback: the model before [default: empty]
        decision: decision of the gate; with any value but pass, the refusal is recorded only [default: pass]
        target: serving target, whose record in the store is changed; empty: nothing is done [default: mm1]
        deployment_name: Deployment of this namespace that serves, such as mm1-serve; empty: the promotion is recorded only
            [default: empty]
        serving_target: what deployment_name is: deployment, or kserve: an InferenceService [default: deployment]
        action: promote, or rollback: at once, without a canary [default: promote]
        replicas_of_canary: pods of the canary; 0: promote without a canary [default: 1]
        canary_weight: percentage of the requests for the canary, where the chart made an HTTPRoute [default: 10]
        canary_seconds: duration of the canary's analysis, in seconds [default: 60.0]
        questions: number of image questions that the canary is asked in that time [default: 12]
        compare_answers: whether the answer to the deployment's own question must be the recorded or the expected one
            [default: true]
        max_error_rate: largest share of the canary's replies with a status of 500 or more [default: 0.01]
        ready_seconds: limit for a pod to load the model and become ready, in seconds [default: 900.0]
        name: name of the task [default: the step's name]
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: runs the task for each item, {{item}} in inputs
        with_items: list of strings, in the same way

    Outputs:
        promoted: whether the model is served, or recorded as served
        reason: why, or why not, in one sentence
    """

def sft(
    *,
    data: _Text,
    init: _Text,
    recipe: _Text,
    resume: _Text = "",
    overrides: _Text = "",
    processes: int | _Text = 0,
    nodes: int | _Text = 1,
    pool: _Text = "",
    device_hours: _Text = "",
    seed: int | _Text = 0,
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """Fine-tune a checkpoint on instructions.

    Args:
        data: DataMix of instructions [required]
        init: Checkpoint to initialize from [required]
        resume: Checkpoint to continue with more steps: model, optimizer, counters and position in the data; empty = none
            [default: empty]
        recipe: name of the recipe; `mm1 recipes` lists them [required]
        overrides: overrides of recipe fields, separated by spaces, for example train.steps=20 [default: empty]
        processes: trainer processes (ranks) per node; 0 = one per GPU, or one without GPUs [default: 0]
        nodes: number of nodes; on one machine, their processes run side by side [default: 1]
        pool: node pool on a cluster; empty = the profile's training pool [default: empty]
        device_hours: device hours (wall time times processes) that this run may spend on the training, all its attempts
            together; then it saves a checkpoint and ends with exit code 88; empty = no limit [default: empty]
        seed: seed of the run [default: 0]
        name: name of the task [default: the step's name]
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: runs the task for each item, {{item}} in inputs
        with_items: list of strings, in the same way

    Outputs:
        manifest: address of the finished Checkpoint manifest
        device_hours_left: device hours that are left of the budget; empty = no limit
    """

def study_evaluate(
    *,
    plan: _Text,
    cell: _Text,
    trained: _Text,
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """Score the Checkpoint of a cell of a study.

    Args:
        plan: StudyPlan [required]
        cell: name of a cell [required]
        trained: JSON list: Checkpoint of each cell, in the order of the plan; empty for one that failed [required]
        name: name of the task [default: the step's name]
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: runs the task for each item, {{item}} in inputs
        with_items: list of strings, in the same way

    Outputs:
        manifest: EvalReport; empty if the training failed, or only losses are compared
    """

def study_plan(
    *,
    studies: _Text,
    base: _Text = "",
    seeds: _Text = "",
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """List the trainings of studies: levels, seeds, and what they share.

    Args:
        studies: names of studies, separated by spaces; files; or the text of a study, which also works on a cluster
            [required]
        base: chain that the levels change: a name (studies/bases), a file or its text; empty = that of each study [default:
            empty]
        seeds: seeds, separated by spaces; empty = those of each study [default: empty]
        name: name of the task [default: the step's name]
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: runs the task for each item, {{item}} in inputs
        with_items: list of strings, in the same way

    Outputs:
        manifest: StudyPlan
        bases: JSON list: beginnings of chains that no other shared chain precedes
        shared: JSON list: the other beginnings that several cells have in common
        cells: JSON list: names of all cells
    """

def study_report(
    *,
    plan: _Text,
    trained: _Text,
    reports: _Text,
    title: _Text = "The paper's lessons",
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """Compute the verdicts of studies from their trained and evaluated cells.

    Args:
        plan: StudyPlan [required]
        trained: addresses of the cells' Checkpoints, a JSON list in the order of the plan; an empty one = the cell failed
            [required]
        reports: addresses of the cells' EvalReports, a JSON list in the order of the plan; an empty one = not evaluated
            [required]
        title: title of the page [default: The paper's lessons]
        name: name of the task [default: the step's name]
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: runs the task for each item, {{item}} in inputs
        with_items: list of strings, in the same way

    Outputs:
        manifest: StudyReport
        num_shown: claims that are shown
        num_claims: claims of all studies
    """

def study_train(
    *,
    plan: _Text,
    cell: _Text,
    tolerate: bool | _Text = False,
    name: str | None = None,
    when: str | None = None,
    with_param: str | Parameter | None = None,
    with_items: Sequence[str] | None = None,
) -> Task:
    """Train a cell of a study, or a beginning that cells share.

    Args:
        plan: StudyPlan [required]
        cell: name of a cell or of a shared chain; several are joined by + [required]
        tolerate: end without a Checkpoint if the training diverges or runs out of memory, so that other cells go on
            [default: false]
        name: name of the task [default: the step's name]
        when: condition, {{tasks.x.outputs.parameters.y}} == literal
        with_param: JSON list of strings, or a reference to one: runs the task for each item, {{item}} in inputs
        with_items: list of strings, in the same way

    Outputs:
        manifest: Checkpoint; empty if the training failed
        failure: outcome class and message of a training that failed
    """
