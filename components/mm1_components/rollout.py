"""Step rollout: serve a deployed model, after a canary has answered its image questions; go back if it fails.

decision != pass               -> recorded as refused, nothing happens
no deployment_name             -> recorded as promoted; ``mm1 serve`` serves it (one machine)
otherwise                      -> canary -> analysis -> promotion, or back (:mod:`mm1_components.serving.rollout`)
action=rollback                -> the same without a canary, to the model before or the given one

On a cluster it needs the account ``mm1-rollout`` and a server of the chart with ``serving.rollout.enabled``: a
Deployment, or with ``serving_target=kserve`` an InferenceService.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, Field

from mm1.errors import ConfigurationError
from mm1.manifests import Deployment
from mm1_components.serving.record import StoreLog, ToldLog, address_of, before, deployment_in, digest_in, record_only
from mm1_components.serving.state import Question, Settings
from mm1_components.wrapper.arguments import ManifestUri
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import main

if TYPE_CHECKING:
    from mm1_components.serving.state import Cluster


class Inputs(BaseModel):
    """Inputs of rollout."""

    deployment: ManifestUri = Field("", description="Deployment to serve; empty, only for a rollback: the model before")
    decision: str = Field("pass", description="decision of the gate; with any value but pass, the refusal is recorded only")
    target: str = Field("mm1", description="serving target, whose record in the store is changed; empty: nothing is done")
    deployment_name: str = Field(
        "", description="Deployment of this namespace that serves, such as mm1-serve; empty: the promotion is recorded only"
    )
    serving_target: Literal["deployment", "kserve"] = Field(
        "deployment", description="what deployment_name is: deployment, or kserve: an InferenceService"
    )
    action: Literal["promote", "rollback"] = Field("promote", description="promote, or rollback: at once, without a canary")
    replicas_of_canary: int = Field(1, ge=0, description="pods of the canary; 0: promote without a canary")
    canary_weight: int = Field(
        10, ge=0, le=100, description="percentage of the requests for the canary, where the chart made an HTTPRoute"
    )
    canary_seconds: float = Field(60.0, ge=0, description="duration of the canary's analysis, in seconds")
    questions: int = Field(12, ge=1, description="number of image questions that the canary is asked in that time")
    compare_answers: bool = Field(
        True, description="whether the answer to the deployment's own question must be the recorded or the expected one"
    )
    max_error_rate: float = Field(
        0.01, ge=0, le=1, description="largest share of the canary's replies with a status of 500 or more"
    )
    ready_seconds: float = Field(900.0, gt=0, description="limit for a pod to load the model and become ready, in seconds")


class Outputs(BaseModel):
    """Outputs of rollout."""

    promoted: bool = Field(description="whether the model is served, or recorded as served")
    reason: str = Field(description="why, or why not, in one sentence")


def check_target_name(target: str) -> None:
    """Check the name of the target."""
    from mm1.lineage.serving import check_target

    if target:
        check_target(target)


def check_what(deployment: str, action: str) -> None:
    """Check that a promotion has a deployment."""
    if not deployment and action != "rollback":
        raise ConfigurationError("deployment: required, unless action=rollback; set it to the output of deploy")


def run(inputs: Inputs, context: Context) -> Outputs:
    """Roll out the model.

    Raises:
        ConfigurationError: no such model or Deployment, or a missing permission.
        NetworkError: the cluster or the store is unreachable.
    """
    if not inputs.target:
        return _outputs(inputs, context, False, "no serving target is set")
    log = StoreLog(context.store, inputs.target, by=f"run {context.run}")
    given = inputs.deployment or _before(inputs, log)
    deployment = deployment_in(context.store, given)
    address = address_of(context.store, digest_in(given))  # as the log spells it
    if inputs.decision != "pass" or not deployment.deployed:
        reason = deployment.reason if not deployment.deployed else f"the gate's decision is {inputs.decision}"
        log.add("refused", address, log.current(), reason, {})
        return _outputs(inputs, context, False, reason)
    if not inputs.deployment_name:
        reason = "recorded only: no deployment_name is set"
        record_only(log, deployment, address, "promoted" if inputs.action == "promote" else "rolled back", reason)
        return _outputs(inputs, context, True, reason)
    return _on_cluster(inputs, context, log, address, deployment)


def _before(inputs: Inputs, log: StoreLog) -> str:
    """Return the address of the model to which a rollback goes: the recorded one if another one is served, else the one before.

    Another one is served if a promotion was killed before it was recorded.
    """
    if inputs.deployment_name:
        served, recorded = _cluster(inputs).served(), log.current()
        if served.journal and served.journal.by == log.by:
            return served.journal.model  # of an earlier attempt of this rollback
        if recorded and served.model not in ("", recorded):
            return recorded
    return address_of(log.store, before(log.store, inputs.target, log.by))


def _cluster(inputs: Inputs) -> Cluster:
    from mm1_components.serving.targets import cluster_of

    return cluster_of(inputs.serving_target, inputs.deployment_name)


def _on_cluster(inputs: Inputs, context: Context, log: StoreLog, address: str, deployment: Deployment) -> Outputs:
    from mm1.serve.api.keys import read_api_keys
    from mm1_components.serving.asking import HttpAsker
    from mm1_components.serving.rollout import Rollout
    from mm1_components.serving.state import SystemClock

    cluster = _cluster(inputs)
    rollout = Rollout(
        cluster,
        HttpAsker(next(iter(read_api_keys("")), "")),
        ToldLog(log.store, log.target, log.by, cluster.tell),
        questions_of(deployment, context, compare_answers=inputs.compare_answers),
        model=address,
        by=log.by,
        settings=Settings(**inputs.model_dump(include=set(Settings.model_fields))),
        clock=SystemClock(),
        direction=inputs.action,
    )
    result = rollout.run()
    context.note(**rollout.analysis.facts())
    return _outputs(inputs, context, result.promoted, result.reason, json.dumps(rollout.analysis.facts(), indent=1))


def questions_of(deployment: Deployment, context: Context, *, compare_answers: bool) -> list[Question]:
    """Return a deployment's own question with its image and its answers, then the same question about its other images.

    Args:
        deployment: the manifest.
        context: context of the step, whose store has the images.
        compare_answers: whether the answer to the own question must be one of the manifest.

    Raises:
        DataError: an image is missing.
    """
    from mm1.data.images.header import data_url
    from mm1.serve.probe import GREY_SQUARE_QUESTION

    sample = deployment.sample
    text = str(sample.get("question") or GREY_SQUARE_QUESTION)
    max_tokens = int(sample.get("max_tokens") or Question.max_tokens)
    answers = tuple(str(sample[name]) for name in ("answer", "expected") if sample.get(name)) if compare_answers else ()
    own = [ref for ref in deployment.images.values() if ref.sha256 == sample.get("image")]
    others = [ref for ref in deployment.images.values() if ref.sha256 != sample.get("image")]
    urls = [data_url(context.store.get_bytes(ref)) for ref in [*own, *others]]
    questions = [Question(text, url, answers if number < len(own) else (), max_tokens) for number, url in enumerate(urls)]
    return questions or [Question(text, "", answers, max_tokens)]


def _outputs(inputs: Inputs, context: Context, promoted: bool, reason: str, figures: str = "") -> Outputs:
    heading = "# " + ("Served" if promoted else "Not served")
    what = f"Target {inputs.target or '-'}, {inputs.serving_target} {inputs.deployment_name or '-'}"
    lines = [heading, "", reason, "", what, *(["", "```json", figures, "```"] if figures else []), ""]
    context.artifact("summary.md").write_text("\n".join(lines))
    return Outputs(promoted=promoted, reason=reason)


STEP = Step(
    name="rollout",
    inputs=Inputs,
    outputs=Outputs,
    run=run,
    summary="Serve a deployed model after a canary has answered its image questions; go back if it fails.",
    artifacts=("summary.md",),
    cached=False,
    account="rollout",
    checks=(check_target_name, check_what),
    timeout_s=14_400,
)

if __name__ == "__main__":
    main(STEP)
