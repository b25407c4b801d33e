"""A recipe of your own: one of MM1's with other values, as overrides that every workflow takes.

    mm1 run mm1:pretrain -p recipe=mm1_tiny -p overrides="$(python examples/own_recipe.py)"

Steps know recipes by their names in `mm1.recipes.registry`, because the cache knows a step by its inputs. A recipe that
others use by name is a function in `model/mm1/recipes` (CONTRIBUTING.md says how).
"""

import shlex

from mm1.config.resolve import resolve
from mm1.recipes import registry
from mm1.train.config import RunConfig

BASE = "mm1_tiny"
OVERRIDES = [
    "model.decoder.ffn_size=256",
    "optim.lr=2e-3",
    "schedule.warmup_steps=50",
    "train.steps=1000",
]


def own() -> RunConfig:
    """The whole configuration, typed and validated; a wrong name or value is an error that names the field."""
    return resolve(registry.get(BASE), OVERRIDES)


if __name__ == "__main__":
    own()
    print(shlex.join(OVERRIDES))
