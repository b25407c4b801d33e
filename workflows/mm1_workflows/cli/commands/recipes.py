"""``mm1 recipes``: what can be trained by name."""

from __future__ import annotations

from mm1.recipes import registry
from mm1_workflows.cli.commands.output import console, plain, say, table
from mm1_workflows.cli.tree.setting import Recipes


def recipes(command: Recipes) -> int:
    """List recipes, or print one as JSON."""
    shown = console()
    if command.name:
        say(shown, registry.get(command.name).model_dump_json(indent=2))
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
