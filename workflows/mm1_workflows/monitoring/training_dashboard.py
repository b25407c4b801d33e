"""The Grafana dashboard of trainings."""

from __future__ import annotations

from typing import Any

from mm1.monitoring.training import ENDED, PAUSED, PENDING, QUEUED, RUNNING, STARTING, STATES, STUCK, TRAINING
from mm1_workflows.monitoring.panels import Panel, Query, Section, Variable, dashboard

RUNS = 'namespace="$namespace", run=~"$run", task=~"$task"'
NAME = "{{run}} {{task}}"
SOURCE, PHASE = f"{NAME} {{{{source}}}}", f"{NAME} {{{{phase}}}}"
COLOURS = {
    QUEUED: "yellow",
    PENDING: "orange",
    STARTING: "blue",
    RUNNING: "green",
    PAUSED: "purple",
    STUCK: "red",
    ENDED: "text",
}
VARIABLES = (
    Variable(name="namespace", query="label_values(mm1_training_state, namespace)"),
    Variable(name="run", query='label_values(mm1_training_state{namespace="$namespace"}, run)', has_all=True),
    Variable(name="task", query='label_values(mm1_training_state{namespace="$namespace", run=~"$run"}, task)', has_all=True),
)


def training() -> dict[str, Any]:
    """Return the dashboard."""
    sections = (
        Section("Overview", _overview()),
        Section("Losses", _losses()),
        Section("Speed", _speed()),
        Section("Reliability", _reliability()),
    )
    return dashboard("mm1-training", "MM1 / Training", "Trainings of MM1, from their supervisors.", VARIABLES, sections)


def _panel(metric: str, title: str, *, legend: str = NAME, **options: Any) -> Panel:
    """Return a panel of one metric, explained by its definition."""
    name = f"mm1_training_{metric}"
    return Panel(title=title, queries=(Query(f"{name}{{{RUNS}}}", legend),), text=TRAINING[name].help, **options)


def _number(metric: str, title: str, unit: str = "short") -> Panel:
    return _panel(metric, title, kind="stat", unit=unit, width=3, height=4)


def _overview() -> tuple[Panel, ...]:
    return (
        _state(),
        Panel(
            title="Progress",
            kind="stat",
            queries=(Query(f"mm1_training_step{{{RUNS}}} / mm1_training_steps{{{RUNS}}}", NAME),),
            unit="percentunit",
            width=3,
            height=4,
        ),
        _number("remaining_seconds", "Time left", "s"),
        _number("loss", "Loss"),
        _number("tokens_per_second", "Tokens per second"),
        _number("mfu_ratio", "MFU", "percentunit"),
        _number("goodput_ratio", "Goodput", "percentunit"),
        _number("checkpoint_age_seconds", "Age of the checkpoint", "s"),
        _number("step_age_seconds", "Since the last step", "s"),
    )


def _state() -> Panel:
    """Return the state of each training over time; its value is the index of the state."""
    terms = (
        f'{number} * max by (run, task) (mm1_training_state{{{RUNS}, state="{name}"}})' for number, name in enumerate(STATES)
    )
    return Panel(
        title="State",
        kind="state-timeline",
        queries=(Query(" + ".join(terms), NAME),),
        width=24,
        height=6,
        mappings=tuple((str(number), name, COLOURS[name]) for number, name in enumerate(STATES)),
    )


def _losses() -> tuple[Panel, ...]:
    return (
        _panel("loss", "Loss"),
        _panel("source_loss", "Loss by source", legend=SOURCE),
        _panel("validation_loss", "Validation loss", legend=SOURCE),
        _panel("gradient_norm", "Gradient norm", is_logarithmic=True),
        Panel(
            title="Skipped batches and spikes",
            queries=(
                Query(f"mm1_training_skipped_batches{{{RUNS}}}", f"{NAME} skipped"),
                Query(f"mm1_training_spikes{{{RUNS}}}", f"{NAME} spikes"),
            ),
            text="Batches that the run skipped because it diverged, and steps that did not update the weights.",
        ),
        _panel("source_tokens", "Tokens by source", legend=SOURCE, unit="short", is_stacked=True),
    )


def _speed() -> tuple[Panel, ...]:
    return (
        _panel("tokens_per_second", "Tokens per second"),
        _panel("step_seconds", "Time per step", unit="s"),
        _panel("mfu_ratio", "MFU", unit="percentunit"),
        _panel("phase_ratio", "Time by phase", legend=PHASE, unit="percentunit", is_stacked=True),
        _panel("straggler_ratio", "Slowest rank", unit="percentunit"),
        _panel("memory_bytes", "Memory of rank 0", unit="bytes"),
    )


def _reliability() -> tuple[Panel, ...]:
    again = tuple(
        Query(
            f"sum by (run, task, reason) (increase(mm1_training_{name}_total{{{RUNS}}}[$__rate_interval])) > 0",
            f"{NAME} {title}: {{{{reason}}}}",
        )
        for name, title in (("restarts", "restart"), ("relaunches", "launch"))
    )
    ended = f"max by (run, task, recipe, outcome) (last_over_time(mm1_training_outcome{{{RUNS}}}[$__range]))"
    return (
        _panel("goodput_ratio", "Goodput", unit="percentunit"),
        _panel("checkpoint_age_seconds", "Age of the checkpoint", unit="s"),
        _panel("step_age_seconds", "Time since the last step", unit="s"),
        _panel("store_failures", "Failed requests to the store"),
        _panel("disk_free_ratio", "Free disk", unit="percentunit"),
        Panel(title="Restarts and launches", queries=again, width=12, text="All ranks started again, by outcome class."),
        Panel(title="Outcomes", kind="table", queries=(Query(ended),), width=12, text=TRAINING["mm1_training_outcome"].help),
    )
