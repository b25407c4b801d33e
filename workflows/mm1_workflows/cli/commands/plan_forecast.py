"""Computing and printing the forecasts of ``mm1 plan``. Imports torch, with which models are counted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from mm1.errors import ConfigurationError
from mm1.train.config import RunConfig
from mm1.train.plan.forecast import FIELDS, Forecast, Machine, forecast, overrides_of, propose
from mm1.train.plan.speed import GPUS_PER_NODE, REACHED
from mm1_workflows.authoring.profiles import pools_table
from mm1_workflows.cli.output import console, say, table
from mm1_workflows.cli.pages import PLAN, page

HOST_UNITS = {"Gi": 1.0, "Ti": 1024.0}


def show(config: RunConfig, machine: Machine, overrides: Sequence[str], *, as_json: bool) -> None:
    """Print a forecast of the configured layout and of the proposed one.

    Args:
        config: the configuration of the run, with all sizes.
        machine: the GPUs.
        overrides: the user's overrides; those of layout fields are not changed by the proposal.
        as_json: whether to print JSON instead of a table.

    Raises:
        ConfigurationError: no layout fits.
    """
    fixed = [name for name in FIELDS if any(item.strip().startswith(f"train.{name}=") for item in overrides)]
    configured, remark = _configured(config, machine)
    output = console()
    try:
        proposed = propose(config, machine, fixed)
    except ConfigurationError:
        if configured and not as_json:
            _show(output, {"configured": configured})
        raise
    if as_json:
        say(output, json.dumps({"as_it_is": configured and facts(configured), "proposed": facts(proposed)}, indent=2))
        return
    _show(output, {"configured": configured, "proposed": proposed} if configured else {"proposed": proposed})
    if remark:
        say(output, f"\nconfigured layout: {remark}")
    _print_host(output, proposed)
    _print_assumptions(output, proposed)
    say(output, f'\nuse it:\n-p overrides="{" ".join(overrides_of(proposed))}"')


def facts(prediction: Forecast) -> dict[str, Any]:
    """Convert a forecast to plain data, in GiB, seconds and shares."""
    speed = prediction.speed
    return {
        "recipe": prediction.config.recipe,
        "gpus": prediction.machine.gpus,
        "gpu": prediction.machine.gpu,
        "parameters": prediction.num_parameters,
        "trained_parameters": prediction.num_trained,
        "train": {name: getattr(prediction.config.train, name) for name in FIELDS},
        "accumulation": prediction.batch_plan.accumulation,
        "memory_gib": {**prediction.memory_gib, "total": sum(prediction.memory_gib.values())},
        "start_gib": prediction.start_gib,
        "limit_gib": prediction.machine.limit_gib,
        "fits": prediction.fits,
        "host_gib_per_node": prediction.host_gib,
        "step_flops": speed.flops.total,
        "step_s": speed.step_s,
        "network_gb_s": prediction.machine.kind.network_gb_s,
        "network_s": speed.network_s,
        "offload_s": speed.offload_s,
        "tokens_per_s": speed.tokens_per_s,
        "assumed_mfu": speed.mfu,
        "reached_mfu": speed.reached_mfu,
        "gpu_hours": prediction.gpu_hours,
        "overrides": overrides_of(prediction),
    }


def _configured(config: RunConfig, machine: Machine) -> tuple[Forecast | None, str]:
    try:
        return forecast(config, machine), ""
    except ConfigurationError as error:
        return None, str(error)


def _show(output: Console, columns: dict[str, Forecast]) -> None:
    first = next(iter(columns.values()))
    machine, train, decoder = first.machine, first.config.train, first.config.model.decoder
    vocabulary = f"vocabulary of {decoder.vocab_size:,} tokens; " if decoder is not None else ""
    trained = f"{_size(first.num_trained)} of them trained\n" if first.num_trained < first.num_parameters else ""
    say(
        output,
        f"{first.config.recipe}, {_size(first.num_parameters)} parameters, {train.dtype}, "
        f"{first.config.optim.name}, {train.steps:,} steps of {train.global_batch}\n"
        f"{trained}{vocabulary}"
        f"{machine.gpus} {machine.gpu}: {machine.kind.memory_gib:.0f} GiB each, {machine.limit_gib:.0f} to use\n",
    )
    listing = table("", *columns)
    for column in listing.columns[1:]:
        column.justify = "right"
    rows = [_column(item) for item in columns.values()]
    for label in rows[0]:
        style = "bold" if label.startswith("needs") else ""
        listing.add_row(label, *(row[label] for row in rows), style=style)
    output.print(listing)


def _column(prediction: Forecast) -> dict[str, str]:
    train, speed = prediction.config.train, prediction.speed
    return {
        "micro-batch x accumulation": f"{prediction.batch_plan.micro_batch} x {prediction.batch_plan.accumulation}",
        "ZeRO stage": str(train.zero_stage),
        "expert-parallel processes": str(train.expert_parallel),
        "activations recomputed": "yes" if train.gradient_checkpointing else "no",
        "optimizer offloaded": "no" if train.offload == "none" else "yes",
        **{f"{kind}, GiB per GPU": _figure(size) for kind, size in prediction.memory_gib.items()},
        "at start, GiB per GPU": _figure(prediction.start_gib),
        "needs, GiB per GPU": _figure(prediction.total_gib) + ("" if prediction.fits else " (does not fit)"),
        "host, GiB per machine: at start": _figure(prediction.host_gib["start"]),
        "host, GiB per machine: training": _figure(prediction.host_gib["training"]),
        "seconds per step": _figure(speed.step_s),
        "of which network, offloading": f"{_figure(speed.network_s)}, {_figure(speed.offload_s)}",
        "tokens/s": _figure(speed.tokens_per_s),
        "MFU": f"{speed.reached_mfu:.0%}",
        "GPU-hours": _figure(prediction.gpu_hours),
        "days": _figure(prediction.gpu_hours / prediction.machine.gpus / 24),
    }


def _figure(value: float) -> str:
    """Format a figure with at least two significant digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _size(num_parameters: int) -> str:
    """Format a number of parameters: 604k, 29.67B."""
    unit, name = next(((unit, name) for unit, name in ((1e9, "B"), (1e6, "M")) if num_parameters >= unit), (1e3, "k"))
    return f"{num_parameters / unit:.2f}{name}" if unit > 1e3 else f"{num_parameters / unit:.0f}{name}"


def _print_host(output: Console, prediction: Forecast) -> None:
    """Warn if a machine of the pools has less memory than its processes need."""
    sizes = {
        pool["memory"] for pool in pools_table().values() if pool.get("gpu") == prediction.machine.gpu and pool.get("gpus") == 8
    }
    needed = max(prediction.host_gib.values())
    for size in sizes:
        if needed > float(size[:-2]) * HOST_UNITS[size[-2:]]:
            say(
                output,
                f"\na machine's processes need {needed:,.0f} GiB of host memory, but a machine of the node pools has {size}",
            )


def _print_assumptions(output: Console, prediction: Forecast) -> None:
    machine = prediction.machine
    origin = "as given" if machine.mfu else "assumed for its class"
    lines = [f"assumed: full sequences; MFU {prediction.speed.mfu:.0%} while computing ({origin})"]
    if machine.gpus > GPUS_PER_NODE:
        kind = "as given" if machine.network_gb_s else "EFA, InfiniBand; for TCP set --network"
        lines.append(f"network: {REACHED:.0%} of {machine.kind.network_gb_s:g} GB/s per machine ({kind})")
    say(output, "\n" + "\n".join([*lines, f"see {page(PLAN)}"]))
