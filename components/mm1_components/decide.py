"""Step decide: whether to train again, from new data, their drift, the age of the served model, and a budget.

RawData + the last mixture, what the target serves, its last retraining -> retrain or wait, with the reason and what to train on

A retraining that was interrupted is continued on its own data, before new data count. The decision is recorded in the store
(:mod:`mm1.lineage.retraining`), and never cached.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from mm1.errors import ConfigurationError
from mm1_components.wrapper.arguments import ManifestUri
from mm1_components.wrapper.checks import Producer
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.device_hours import check_device_hours, device_hours_text, parse_device_hours
from mm1_components.wrapper.execute import main
from mm1_components.wrapper.raw_data import SOURCES, check_names

if TYPE_CHECKING:
    from mm1.data.features.triggers import Findings
    from mm1.lineage.retraining import Retraining, State
    from mm1.lineage.serving import Change
    from mm1.store.base import Store

DAY_S = 86_400.0


class Inputs(BaseModel):
    """Inputs of decide."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: ManifestUri = Field(description="current RawData")
    sources: str = Field("captions interleaved text", description="sources and sub-sources of the mixture, separated by spaces")
    target: str = Field("mm1", description="what serves the model: lower-case letters, digits and '-'")
    min_samples: int = Field(1, description="train again from this number of new samples on; 0 = off", ge=0)
    min_share: float = Field(
        0.0, description="train again from this ratio of new samples to those of the last mixture on; 0 = off", ge=0
    )
    max_drift: float = Field(
        0.0,
        description="train again if the population stability index of a statistic of the new shards is larger; 0.25 is a "
        "significant change; 0 = off",
        ge=0,
    )
    max_age_days: float = Field(
        0.0, description="train again if there are new samples and the served model is older, in days; 0 = off", ge=0
    )
    device_hours: str = Field(
        "", description="device hours (wall time times processes) that a period's retrainings may spend; empty = no limit"
    )
    period_days: float = Field(7.0, description="length of the budget's period, in days", gt=0)
    init: ManifestUri = Field("", description="Checkpoint to continue from if nothing is served; empty = random initialization")


def check_source_names(sources: str) -> None:
    """Check that there are sources, and that they exist."""
    from mm1.data.source_names import parent_of

    if not sources.split():
        raise ConfigurationError("sources: expected at least one source")
    check_names("sources", map(parent_of, sources.split()))


def check_sources(sources: str, data: Producer) -> None:
    """Check that the sources are among those that are ingested."""
    if data.step != "ingest" or not data.known("data", *SOURCES) or data.inputs["data"]:
        return
    from mm1.data.source_names import parent_of

    given = [name for name in SOURCES if data.inputs[name]]
    if missing := [name for name in map(parent_of, sources.split()) if name not in given]:
        raise ConfigurationError(f"sources: {missing[0]!r} is not ingested; ingested sources: {', '.join(given) or 'none'}")


def check_thresholds(min_samples: int, min_share: float, max_drift: float, max_age_days: float) -> None:
    """Check that something can be a reason to train again."""
    if not any((min_samples, min_share, max_drift, max_age_days)):
        raise ConfigurationError(
            "min_samples, min_share, max_drift and max_age_days are all 0, so nothing would ever be trained again; "
            "set one of them, for example min_samples=1000"
        )


def check_target_name(target: str) -> None:
    """Check the name of the target."""
    from mm1.lineage.serving import check_target

    check_target(target)


class Outputs(BaseModel):
    """Outputs of decide."""

    decision: Literal["retrain", "wait"] = Field(description="retrain or wait")
    reason: str = Field(description="reason in a sentence, with its numbers")
    new_shards: int = Field(description="shards added since the last mixture")
    new_samples: int = Field(description="samples in them")
    data: ManifestUri = Field(description="RawData to mix: the current one, or that of the retraining to continue")
    as_of: str = Field(description="time for the mixtures (ISO 8601)")
    init: ManifestUri = Field("", description="pre-trained Checkpoint to continue from; empty = random initialization")
    serving: ManifestUri = Field("", description="served Deployment; empty = none")
    device_hours: str = Field("", description="device hours that are left of the budget; empty = no limit")


class Plan(NamedTuple):
    """What to do, and why."""

    retraining: Retraining | None
    """None = wait."""
    reason: str


def run(inputs: Inputs, context: Context) -> Outputs:
    """Decide, and record a decision to train again.

    Raises:
        ConfigurationError: the data has no such source.
        DataError: the state of the target, or a record of its last retraining, is damaged.
    """
    from mm1.data.features.triggers import Limits, look, reference_of
    from mm1.data.source_names import check_names_in
    from mm1.lineage.retraining import read_state
    from mm1.lineage.serving import current
    from mm1.manifests import RawData, manifest_key

    store, now = context.store, datetime.now(UTC)
    raw, sources = context.load(inputs.data, RawData), inputs.sources.split()
    check_names_in(raw, "sources", sources)
    before = read_state(store, inputs.target)
    state = _counted(store, before.in_period(now, inputs.period_days))
    served = current(store, inputs.target)
    age_days = (now - served.time).total_seconds() / DAY_S if served else None
    limits = Limits(inputs.min_samples, inputs.min_share, inputs.max_drift, inputs.max_age_days)
    findings = look(store, raw, sources, reference_of(store, sources, before.last), limits, age_days)
    init = _init(store, served, inputs.init)
    plan = _earlier(context, before, now) or _new(inputs, context.run, findings, init, now)
    left = _left(inputs, context.run, state)
    if plan.retraining is not None and left is not None and left <= 0:
        plan = Plan(None, _used_up(inputs, state, plan.reason))
    _record(store, inputs.target, before, state, plan.retraining)
    chosen = plan.retraining
    outputs = Outputs(
        decision="retrain" if chosen else "wait",
        reason=plan.reason,
        new_shards=findings.arrivals.new.shards,
        new_samples=findings.arrivals.new.samples,
        data=f"{store.uri}/{manifest_key(chosen.data)}" if chosen else inputs.data,
        as_of=(chosen.as_of if chosen else now).isoformat(),
        init=chosen.init if chosen else init,
        serving=f"{store.uri}/{manifest_key(served.deployment)}" if served else "",
        device_hours=device_hours_text(left),
    )
    context.artifact("summary.md").write_text(_summary(outputs, findings, inputs))
    return outputs


def _earlier(context: Context, state: State, now: datetime) -> Plan | None:
    """Return the plan that follows from the last retraining; None if it is over, or there was none."""
    from mm1.lineage.records import read_record, record_key
    from mm1.lineage.retraining import end_of
    from mm1.manifests import manifest_key

    store, last = context.store, state.last
    if last is None:
        return None
    if last.run == context.run and read_record(store, record_key(context.run, context.task)).attempts > 1:
        return Plan(last, last.reason)  # this task decided, and was then killed
    end = end_of(store, last, context.run)
    if end.running:
        return Plan(None, f"the retraining of run {last.run} is still running ({end.running}), or was killed within the hour")
    if not end.interrupted or not store.exists(manifest_key(last.data)):
        return None
    reason = (
        f"continues the retraining of run {last.run}, with its data as of {last.as_of.isoformat(timespec='seconds')}: "
        f"{end.interrupted}"
    )
    same = {"run": context.run, "time": now, "init": _here(store, last.init), "reason": reason}
    return Plan(last.model_copy(update=same), reason)


def _new(inputs: Inputs, run: str, findings: Findings, init: str, now: datetime) -> Plan:
    """Return the plan that follows from new data."""
    from mm1.lineage.retraining import Retraining
    from mm1.manifests import split_uri

    if not findings.reason:
        return Plan(None, findings.why_not)
    as_of = max(now, findings.arrivals.latest or now)  # the clock of the machine that ingested may be ahead
    retraining = Retraining(
        run=run,
        time=now,
        sources=tuple(inputs.sources.split()),
        data=split_uri(inputs.data)[1],
        as_of=as_of,
        init=init,
        reason=findings.reason,
    )
    return Plan(retraining, findings.reason)


def _init(store: Store, served: Change | None, given: str) -> str:
    """Return the address of the Checkpoint to continue from: of the served model's pre-training, else the given one."""
    from mm1.lineage.retraining import pretrained
    from mm1.manifests import manifest_key

    digest = pretrained(store, served.deployment) if served else None
    return f"{store.uri}/{manifest_key(digest)}" if digest else given


def _here(store: Store, address: str) -> str:
    """Return the address of a manifest in this store, if the store has it: its own address may have changed."""
    from mm1.manifests import manifest_key, split_uri

    key = manifest_key(split_uri(address)[1]) if address else ""
    return f"{store.uri}/{key}" if key and store.exists(key) else address


# -- the budget ---------------------------------------------------------------------------------------------------------


def _counted(store: Store, state: State) -> State:
    """Count the device hours of the period's runs again; those of runs whose records were removed stay as they are."""
    from mm1.lineage.retraining import device_hours

    def count(run: str, before: float) -> float:
        hours = device_hours(store, run)
        return before if hours is None else hours

    return state.model_copy(update={"spent": {run: count(run, before) for run, before in state.spent.items()}})


def _left(inputs: Inputs, run: str, state: State) -> float | None:
    """Return what other runs have left of the budget; training counts the earlier attempts of its own run itself."""
    budget = parse_device_hours(inputs.device_hours)
    return None if budget is None else budget - sum(hours for name, hours in state.spent.items() if name != run)


def _used_up(inputs: Inputs, state: State, reason: str) -> str:
    assert state.period_started is not None, "set with the period"
    end = state.period_started + timedelta(days=inputs.period_days)
    return (
        f"the budget of {inputs.device_hours} device hours is used up: {sum(state.spent.values()):.3g} since "
        f"{state.period_started.isoformat(timespec='seconds')}; the period of {inputs.period_days:g} days ends "
        f"{end.isoformat(timespec='seconds')}. It would train again: {reason}"
    )


def _record(store: Store, target: str, before: State, state: State, retraining: Retraining | None) -> None:
    """Write the state if something to remember has changed."""
    from mm1.lineage.retraining import write_state

    if retraining is not None:
        spent = {retraining.run: 0.0} | state.spent
        write_state(store, target, state.model_copy(update={"last": retraining, "spent": spent}))
    elif state.spent != before.spent:
        write_state(store, target, state)


def _summary(outputs: Outputs, findings: Findings, inputs: Inputs) -> str:
    lines = [f"# {outputs.decision.capitalize()}", "", f"{outputs.reason}.", "", "| threshold | limit | now | reached |"]
    lines += ["|---|---|---|---|"]
    for threshold in findings.thresholds:
        lines.append(f"| `{threshold.name}` | {threshold.limit} | {threshold.value} | {'yes' if threshold.reached else 'no'} |")
    facts = {
        "New": f"{outputs.new_samples:,} samples in {outputs.new_shards:,} shards",
        "Served": outputs.serving or "nothing",
        "Continues from": outputs.init or "random initialization",
        "Budget": f"{outputs.device_hours} of {inputs.device_hours} device hours are left" if inputs.device_hours else "none",
    }
    return "\n".join([*lines, "", *(f"- {name}: {value}" for name, value in facts.items())]) + "\n"


STEP = Step(
    name="decide",
    inputs=Inputs,
    outputs=Outputs,
    run=run,
    summary="Decide whether to train again: new data, their drift, the age of the served model, and a budget.",
    artifacts=("summary.md",),
    cached=False,
    checks=(check_source_names, check_sources, check_thresholds, check_target_name, check_device_hours),
)

if __name__ == "__main__":
    main(STEP)
