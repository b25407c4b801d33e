"""The common part of the steps pretrain, pretrain_vision and sft: from inputs to a published checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Protocol, cast

from pydantic import BaseModel, Field

from mm1.checkpoint.resume import forget
from mm1.config.resolve import canonical_json, split_overrides
from mm1.config.values import local_path
from mm1.errors import BudgetUsedUp, ConfigurationError
from mm1.manifests import Checkpoint, DataMix, load, split_uri
from mm1.store.base import digest_of
from mm1.store.open import open_store
from mm1.train import run_files
from mm1.train.callbacks.device_hours import used_up_message
from mm1.train.config import RunConfig, TrainJob
from mm1.train.continuation import check_mixture, check_origin, continued
from mm1.train.model_origin import check_against_mixture, check_pairs, check_sequence, model_json, provides, sequence_of
from mm1.train.same_work import decisive, difference
from mm1_components.ranks.launcher import Layout
from mm1_components.ranks.stage_card import write_card
from mm1_components.ranks.stage_checks import NO_TEXT, check_resume_store, checks_of, resolve_run, settle
from mm1_components.ranks.stage_results import collect_files, write_metrics
from mm1_components.ranks.train import train
from mm1_components.wrapper.arguments import ManifestUri, Placement
from mm1_components.wrapper.cache import folder_fingerprint
from mm1_components.wrapper.declaration import Context, InputsT, Step
from mm1_components.wrapper.device_hours import device_hours_text, parse_device_hours

RecipeField = Annotated[str, Field(description="name of the recipe; `mm1 recipes` lists them")]
OverridesField = Annotated[
    str, Field(description="overrides of recipe fields, separated by spaces, for example train.steps=20")
]
ProcessesField = Annotated[
    int, Field(ge=0, description="trainer processes (ranks) per node; 0 = one per GPU, or one without GPUs")
]
NodesField = Annotated[int, Field(ge=1, description="number of nodes; on one machine, their processes run side by side")]
ResumeField = Annotated[
    ManifestUri,
    Field(
        description="Checkpoint to continue with more steps: model, optimizer, counters and position in the data; empty = none"
    ),
]
PoolField = Annotated[Placement, Field(description="node pool on a cluster; empty = the profile's training pool")]


class StageInputs(Protocol):
    """Common inputs of the training steps."""

    data: str
    init: str
    resume: str
    recipe: str
    overrides: str
    processes: int
    nodes: int
    pool: str
    device_hours: str
    seed: int


class StageOutputs(BaseModel):
    """Outputs of a training step."""

    manifest: str = Field(description="address of the finished Checkpoint manifest")
    device_hours_left: str = Field("", description="device hours that are left of the budget; empty = no limit")


GRACE_S = 600
"""Seconds between a request to stop and SIGKILL, enough for one step and a checkpoint."""


def training_step(name: str, inputs: type[InputsT], stages: Sequence[str], summary: str) -> Step[InputsT, StageOutputs]:
    """Declare a step that trains recipes of the given stages.

    Args:
        name: name of the step.
        inputs: its inputs, including those of :class:`StageInputs`; `vision` and `decoder` if it reads folders.
        stages: stages of the recipes that it trains.
        summary: one line for `--help`.
    """

    def run(given: InputsT, context: Context) -> StageOutputs:
        return run_stage(cast(StageInputs, given), context, name)

    def recalled(given: InputsT, outputs: dict[str, Any]) -> dict[str, Any]:
        """A result from the cache spends nothing."""
        return outputs | {"device_hours_left": cast(StageInputs, given).device_hours}

    return Step(
        name=name,
        inputs=inputs,
        outputs=StageOutputs,
        run=run,
        kind="Checkpoint",
        fits=lambda inputs, manifest: _difference(cast(StageInputs, inputs), cast(Checkpoint, manifest)),
        summary=summary,
        pool="train",
        artifacts=("metrics.json", "metrics.jsonl", "card.yaml"),
        recalled=recalled,
        checks=checks_of(name, stages),
        distributed=True,
        grace_s=GRACE_S,
    )


def run_stage(inputs: StageInputs, context: Context, step: str) -> StageOutputs:
    """Train a stage, or publish a given decoder of the text stage as a checkpoint; write metrics.json and card.yaml.

    Raises:
        Mm1Error: invalid inputs, or an error of :func:`mm1_components.ranks.train.train`.
    """
    vision, decoder = _folders(inputs)
    mix = context.load(inputs.data, DataMix)
    checkpoint = context.load(inputs.init, Checkpoint) if inputs.init else None
    resumed = context.load(inputs.resume, Checkpoint) if inputs.resume else None
    recipe = resolve_run(inputs.recipe, inputs.overrides, inputs.seed)
    check_sequence(recipe.sequence, sequence_of(mix))
    check_pairs(recipe.model, sequence_of(mix))
    if recipe.stage == "text" and mix.has_images and not decoder:
        names = ", ".join(source.name for source in mix.sources if source.num_images)
        raise ConfigurationError(NO_TEXT.format(f"the mixture has images ({names})"))
    if recipe.stage == "vision" and not mix.has_images:
        raise ConfigurationError("data: the mixture has no images to train a vision tower on: build it with weights=captions=1")
    if resumed:
        check_resume_store(inputs.resume, context.store.uri)
    config = _with_parts(recipe, inputs, checkpoint, resumed)
    if resumed:
        check_origin(split_uri(inputs.init)[1] if inputs.init else "", resumed)
        check_mixture(config, resumed, split_uri(inputs.data)[1])
    origin = resumed or (checkpoint if checkpoint and provides(checkpoint.stage, "vision") and not vision else None)
    if origin:
        model = model_json(open_store(split_uri(inputs.resume or inputs.init)[0]), origin)
        check_against_mixture(model, mix, tower_only=not resumed and not provides(origin.stage, "connector"))
    job = TrainJob(
        config=config,
        data=inputs.data,
        init=inputs.init,
        resume=inputs.resume,
        vision=_absolute(vision),
        decoder=_absolute(decoder),
        store=context.store.uri,
        key=work_key(config, inputs.data, inputs.init, vision, decoder, inputs.resume),
        run=context.run,
        device_hours=parse_device_hours(inputs.device_hours),
        code=context.code,
        folder=str(context.work),
        logs=context.logs,
    )
    layout = Layout(nodes=inputs.nodes, processes=inputs.processes, pool=inputs.pool, grace_s=GRACE_S)
    try:
        _check_budget(job, context)
        result = train(job, layout, context)
    finally:
        facts = collect_files(context, job.key)
    finished = load(result.manifest, Checkpoint)
    write_metrics(context.artifact("metrics.json"), result, finished, mix, facts)
    if finished.step:
        write_card(step, cast(BaseModel, inputs), context, result, finished, facts)
    forget(context.store, job.key)
    run_files.forget(context.store, job.key)
    left = None if job.device_hours is None else job.device_hours - facts.get("device_hours", 0.0)
    return StageOutputs(manifest=result.manifest, device_hours_left=device_hours_text(left))


def _check_budget(job: TrainJob, context: Context) -> None:
    """Check that something is left of the budget, before any rank starts.

    Raises:
        BudgetUsedUp: earlier attempts of the run have used it up, or it is 0.
    """
    if job.device_hours is not None and run_files.device_hours(context.store, job.key, context.run) >= job.device_hours:
        raise BudgetUsedUp(f"no step was trained: {used_up_message(job.device_hours)}")


def _folders(inputs: StageInputs) -> tuple[str, str]:
    """Return the folders of a vision tower and a decoder; empty in a step that reads none."""
    return getattr(inputs, "vision", ""), getattr(inputs, "decoder", "")


def _with_parts(recipe: RunConfig, inputs: StageInputs, init: Checkpoint | None, resumed: Checkpoint | None) -> RunConfig:
    """Give a recipe the model parts that come from checkpoints and folders."""
    if resumed:
        return continued(recipe, resumed, split_overrides(inputs.overrides))
    return settle(recipe, init.stage if init else "", *_folders(inputs), inputs.overrides)


def _difference(inputs: StageInputs, checkpoint: Checkpoint) -> str:
    """Describe how a remembered checkpoint differs from the result of these inputs; empty if it does not."""
    parents = [split_uri(uri)[1] for uri in (inputs.data, inputs.init, inputs.resume) if uri]
    recipe = resolve_run(inputs.recipe, inputs.overrides, inputs.seed)
    if recipe.stage == "text" and _folders(inputs)[1] and checkpoint.stage == "imported":
        return "" if [*checkpoint.parents] == parents else "parents: of another import"
    init, resumed = (load(uri, Checkpoint) if uri else None for uri in (inputs.init, inputs.resume))
    return difference(checkpoint, _with_parts(recipe, inputs, init, resumed), parents)


def work_key(config: RunConfig, data: str, init: str, vision: str, decoder: str, resume: str = "") -> str:
    """Return the key of a training job, under which unfinished work is resumed.

    Neither the number of processes, the layout nor the code is part of it: a long run can resume with fewer nodes, another
    micro-batch, or fixed code.
    """
    addresses = [split_uri(uri)[1] if uri else "" for uri in (data, init, resume)]
    folders = [folder_fingerprint(local_path(folder)) if folder else "" for folder in (vision, decoder)]
    return digest_of(canonical_json({"config": decisive(config), "from": [*addresses, *folders]}).encode())


def _absolute(folder: str) -> str:
    return str(local_path(folder).absolute()) if folder else ""
