"""Commands about models and the set-up: serve, doctor, recipes, plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from cappa import Arg, command

from mm1_workflows.cli.tree.options import COMMANDS, StoreArg


@command(name="serve", help="Serve a model with an OpenAI-compatible API and a chat page.", invoke=f"{COMMANDS}.serve.serve")
@dataclass
class Serve:
    """``mm1 serve``."""

    model: Annotated[str, Arg(value_name="uri", help="Manifest or folder of a model [default: the newest deployment].")] = ""
    store: StoreArg = "runs/store"
    host: Annotated[str, Arg(long=True, value_name="ADDRESS", help="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Arg(long=True, value_name="N", help="Port to listen on.")] = 8000


@command(name="doctor", help="Check the set-up and say how to mend it.", invoke=f"{COMMANDS}.doctor.doctor")
@dataclass
class Doctor:
    """``mm1 doctor``."""

    store: StoreArg = "runs/store"


@command(name="recipes", help="List the recipes of training runs.", invoke=f"{COMMANDS}.recipes.recipes")
@dataclass
class Recipes:
    """``mm1 recipes``."""

    name: Annotated[str, Arg(value_name="recipe", help="One recipe: its whole configuration [default: list all].")] = ""


@command(name="plan", help="Forecast memory and time of a training run; propose a layout.", invoke=f"{COMMANDS}.plan.plan")
@dataclass
class Plan:
    """``mm1 plan``."""

    recipe: Annotated[str, Arg(long=True, value_name="NAME", help="Recipe of the run.")]
    gpus: Annotated[int, Arg(long=True, value_name="N", help="GPUs, one process on each.")] = 8
    gpu: Annotated[str, Arg(long=True, value_name="KIND", help="a100-40, a100-80, h100, h200 or l40s.")] = "h100"
    set: Annotated[
        list[str],
        Arg(long=True, value_name="PATH=VALUE", help="An override; the layout's fields that are set stay as they are."),
    ] = field(default_factory=list)
    model: Annotated[
        str, Arg(long=True, value_name="NAME", help="Recipe whose model is trained, where the run's own comes from init (SFT).")
    ] = ""
    mfu: Annotated[
        float, Arg(long=True, value_name="SHARE", help="Share of the peak while computing [default: assumed for its class].")
    ] = 0.0
    reserve: Annotated[float, Arg(long=True, value_name="SHARE", help="Share of a GPU's memory to leave free.")] = 0.1
    json: Annotated[bool, Arg(long=True, help="Print JSON.")] = False
