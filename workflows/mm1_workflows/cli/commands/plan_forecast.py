"""Forecasts of ``mm1 plan``: made, and printed as a table or as JSON. Imports torch, on which models are counted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from mm1.errors import ConfigurationError
from mm1.train.config import RunConfig
from mm1.train.plan.forecast import FIELDS, Forecast, Machine, forecast, overrides_of, propose
from mm1_workflows.authoring.profiles import pools_table
from mm1_workflows.cli.output import console, say
from mm1_workflows.cli.pages import PLAN, page

HOST_UNITS = {"Gi": 1.0, "Ti": 1024.0}


def show(config: RunConfig, machine: Machine, overrides: Sequence[str], *, as_json: bool) -> None:
    """Print a forecast of the run as it is, and of the proposed layout.

    Args:
        config: the run, with all its sizes.
        machine: what it is planned for.
        overrides: those that the user gave; fields of the layout among them stay as they are.
        as_json: whether to print JSON instead of a table.

    Raises:
        ConfigurationError: nothing fits.
    """
    fixed = [name for name in FIELDS if any(item.strip().startswith(f"train.{name}=") for item in overrides)]
    as_it_is, remark = _as_it_is(config, machine)
    output = console()
    try:
        proposed = propose(config, machine, fixed)
    except ConfigurationError:
        if as_it_is and not as_json:
            _show(output, {"as it is": as_it_is})
        raise
    if as_json:
        say(output, json.dumps({"as_it_is": as_it_is and facts(as_it_is), "proposed": facts(proposed)}, indent=2))
        return
    _show(output, {"as it is": as_it_is, "proposed": proposed} if as_it_is else {"proposed": proposed})
    if remark:
        say(output, f"\nas it is: {remark}")
    _tell_host(output, proposed)
    _tell_assumptions(output, proposed)
    say(output, "\ntake it (in a workflow: overrides=):\n" + "\n".join(f"  --set {item}" for item in overrides_of(proposed)))


def facts(found: Forecast) -> dict[str, Any]:
    """A forecast as plain data; GiB, seconds, shares."""
    speed = found.speed
    return {
        "recipe": found.config.recipe,
        "gpus": found.machine.gpus,
        "gpu": found.machine.gpu,
        "parameters": found.num_parameters,
        "train": {name: getattr(found.config.train, name) for name in FIELDS},
        "accumulation": found.batch_plan.accumulation,
        "memory_gib": {**found.memory_gib, "total": sum(found.memory_gib.values())},
        "start_gib": found.start_gib,
        "limit_gib": found.machine.limit_gib,
        "fits": found.fits,
        "host_gib_per_node": found.host_gib,
        "step_s": speed.step_s,
        "network_s": speed.network_s,
        "offload_s": speed.offload_s,
        "tokens_per_s": speed.tokens_per_s,
        "assumed_mfu": speed.mfu,
        "reached_mfu": speed.reached_mfu,
        "gpu_hours": found.gpu_hours,
        "overrides": overrides_of(found),
    }


def _as_it_is(config: RunConfig, machine: Machine) -> tuple[Forecast | None, str]:
    try:
        return forecast(config, machine), ""
    except ConfigurationError as error:
        return None, str(error)


def _show(shown: Console, columns: dict[str, Forecast]) -> None:
    first = next(iter(columns.values()))
    machine, train = first.machine, first.config.train
    say(
        shown,
        f"{first.config.recipe}, {first.num_parameters / 1e9:.2f}B parameters, {train.dtype}, {first.config.optim.name}, "
        f"{train.steps:,} steps of {train.global_batch}\n"
        f"{machine.gpus} {machine.gpu}: {machine.kind.memory_gib:.0f} GiB each, {machine.limit_gib:.0f} to use\n",
    )
    listing = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    listing.add_column("")
    for name in columns:
        listing.add_column(name, justify="right")
    rows = [_column(found) for found in columns.values()]
    for label in rows[0]:
        style = "bold" if label.startswith("needs") else ""
        listing.add_row(label, *(row[label] for row in rows), style=style)
    shown.print(listing)


def _column(found: Forecast) -> dict[str, str]:
    train, speed = found.config.train, found.speed
    return {
        "micro-batch x accumulation": f"{found.batch_plan.micro_batch} x {found.batch_plan.accumulation}",
        "ZeRO stage": str(train.zero_stage),
        "processes that share experts": str(train.expert_parallel),
        "activations recomputed": "yes" if train.gradient_checkpointing else "no",
        "optimiser offloaded": "no" if train.offload == "none" else "yes",
        **{f"{kind}, GiB a GPU": f"{size:.1f}" for kind, size in found.memory_gib.items()},
        "while it starts, GiB a GPU": f"{found.start_gib:.1f}",
        "needs, GiB a GPU": f"{found.total_gib:.1f}" + ("" if found.fits else " (does not fit)"),
        "host, GiB a machine: to start": f"{found.host_gib['start']:,.0f}",
        "host, GiB a machine: training": f"{found.host_gib['training']:,.0f}",
        "seconds a step": f"{speed.step_s:.2f}",
        "of them network, offloading": f"{speed.network_s:.2f}, {speed.offload_s:.2f}",
        "tokens/s": f"{speed.tokens_per_s:,.0f}",
        "MFU": f"{speed.reached_mfu:.0%}",
        "GPU-hours": f"{found.gpu_hours:,.0f}",
        "days": f"{found.gpu_hours / found.machine.gpus / 24:,.1f}",
    }


def _tell_host(shown: Console, found: Forecast) -> None:
    """Warn where a machine of the pools has less memory than its processes need."""
    sizes = {
        pool["memory"] for pool in pools_table().values() if pool.get("gpu") == found.machine.gpu and pool.get("gpus") == 8
    }
    needed = max(found.host_gib.values())
    for size in sizes:
        if needed > float(size[:-2]) * HOST_UNITS[size[-2:]]:
            say(
                shown,
                f"\na machine's processes need {needed:,.0f} GiB of host memory, and the table of node pools has {size}",
            )


def _tell_assumptions(shown: Console, found: Forecast) -> None:
    given = "as given" if found.machine.mfu else "assumed for its class"
    say(
        shown,
        f"\nassumed: full sequences; MFU {found.speed.mfu:.0%} while computing ({given});\n"
        f"networks of common cloud machines ({page(PLAN)})",
    )
