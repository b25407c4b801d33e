"""``mm1 recipes``: list the recipes of training runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cappa import Arg, command

from mm1.recipes import registry
from mm1_workflows.cli.options import choices
from mm1_workflows.cli.output import console, plain, say, table


@command(name="recipes", help="List the recipes of training runs.")
@dataclass
class Command:
    """``mm1 recipes``."""

    name: Annotated[
        str,
        Arg(
            value_name="recipe",
            help="Recipe whose configuration to print [default: list all].",
            completion=choices(registry.names()),
        ),
    ] = ""

    def __call__(self) -> int:
        """List recipes, or print one as JSON."""
        output = console()
        if self.name:
            say(output, registry.get(self.name).model_dump_json(indent=2))
            return 0
        listing = table("recipe", "stage", "steps", "sequences per step", "description")
        for name in registry.names():
            config = registry.get(name)
            listing.add_row(
                name, config.stage, str(config.train.steps), str(config.train.global_batch), plain(registry.describe(name))
            )
        output.print(listing)
        say(output, "\nconfiguration of a recipe: mm1 recipes NAME; override of a field: -p overrides=train.steps=20")
        return 0
