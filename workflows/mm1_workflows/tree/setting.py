"""Commands about models and the set-up: serve, doctor, recipes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cappa import Arg, command

from mm1_workflows.tree.options import COMMANDS, StoreArg


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
