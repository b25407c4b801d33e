"""``mm1 recipes``: what can be trained by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cappa import Arg, command

from mm1.recipes import registry
from mm1_workflows.cli.output import console, plain, say, table


@command(name="recipes", help="List the recipes of training runs.")
@dataclass
class Command:
    """``mm1 recipes``."""

    name: Annotated[str, Arg(value_name="recipe", help="One recipe: its whole configuration [default: list all].")] = ""

    def __call__(self) -> int:
        """List recipes, or print one as JSON."""
        shown = console()
        if self.name:
            say(shown, registry.get(self.name).model_dump_json(indent=2))
            return 0
        listing = table("recipe", "stage", "steps", "sequences per step", "what it is")
        for name in registry.names():
            config = registry.get(name)
            listing.add_row(
                name, config.stage, str(config.train.steps), str(config.train.global_batch), plain(registry.describe(name))
            )
        shown.print(listing)
        say(shown, "\none in full: mm1 recipes NAME; change a field: -p overrides=train.steps=20")
        return 0
