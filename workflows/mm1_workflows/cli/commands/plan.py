"""``mm1 plan``: forecast memory and time of a training run on given GPUs, and propose a layout."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from cappa import Arg, command

from mm1.config.resolve import resolve
from mm1.errors import ConfigurationError
from mm1.recipes import registry
from mm1.train.batch_plan import check_forecast
from mm1.train.config import RunConfig, SequenceConfig
from mm1_components import data_mix, ingest
from mm1_workflows.cli.options import choices, count_option

GPUS = ("a100-40", "a100-80", "h100", "h200", "l40s")
"""Kinds of GPUs, as in `mm1.train.plan.speed`, which imports torch."""


@command(name="plan", help="Forecast memory and time of a training run; propose a layout.")
@dataclass
class Command:
    """``mm1 plan``."""

    recipe: Annotated[str, Arg(long=True, value_name="NAME", help="Recipe of the run.", completion=choices(registry.names()))]
    gpus: Annotated[int, count_option("Number of GPUs, with one process each.", least=1)] = 8
    gpu: Annotated[
        str,
        Arg(long=True, value_name="KIND", help=f"{', '.join(GPUS[:-1])} or {GPUS[-1]}.", completion=choices(GPUS)),
    ] = "h100"
    set: Annotated[
        list[str],
        Arg(long=True, value_name="PATH=VALUE", help="Override of a recipe field; layout fields that are set are kept."),
    ] = field(default_factory=list)
    model: Annotated[
        str,
        Arg(
            long=True,
            value_name="NAME",
            help="Recipe of the model, for runs that get it from init (SFT).",
            completion=choices(registry.names()),
        ),
    ] = ""
    mfu: Annotated[
        float,
        Arg(
            long=True,
            value_name="SHARE",
            help="MFU while computing [default: an assumption for the class of the model].",
            show_default=False,
        ),
    ] = 0.0
    network: Annotated[
        float,
        Arg(
            long=True,
            value_name="GB/S",
            help="Network bandwidth of a machine, one way [default: 400 for h100 and h200, otherwise 50].",
            show_default=False,
        ),
    ] = 0.0
    reserve: Annotated[float, Arg(long=True, value_name="SHARE", help="Share of a GPU's memory to keep free.")] = 0.1
    json: Annotated[bool, Arg(long=True, help="Print JSON.")] = False

    def __call__(self) -> int:
        """Print a forecast of the configured layout and of the proposed one.

        Raises:
            ConfigurationError: no layout fits, or a size is unknown.
        """
        config = resolve(complete(registry.get(self.recipe), self.model), self.set)
        # torch takes seconds to import, so not for the help or for an unknown recipe
        from mm1.train.plan.forecast import Machine
        from mm1_workflows.cli.commands import plan_forecast

        machine = Machine(self.gpus, self.gpu, self.reserve, self.mfu, self.network)
        plan_forecast.show(config, machine, self.set, as_json=self.json)
        return 0


def complete(config: RunConfig, model: str = "") -> RunConfig:
    """Complete the sizes that a recipe does not set, from another recipe or the defaults of ingest and data_mix.

    Raises:
        ConfigurationError: the run gets its model from `init`, and no recipe of the model is given; or its stage is not
            forecast.
    """
    check_forecast(config)
    if config.model.decoder is None and not model:
        raise ConfigurationError(
            f"recipe {config.recipe} trains the model of its init: set the recipe of that model, for example --model mm1_3b"
        )
    if model:
        config = config.model_copy(update={"model": registry.get(model).model})
    decoder, sequence = config.model.decoder, config.sequence
    if decoder is not None and not decoder.vocab_size:
        decoder = decoder.model_copy(update={"vocab_size": ingest.Inputs.model_fields["vocabulary"].default})
    if sequence is None:
        defaults = {name: field.default for name, field in data_mix.Inputs.model_fields.items()}
        sequence = SequenceConfig(
            length=defaults["sequence_length"],
            max_images=defaults["max_images"],
            image_size_px=defaults["image_size"],
            image_tokens=defaults["image_tokens"],
        )
    sections = config.model.model_copy(update={"decoder": decoder})
    return config.model_copy(update={"model": sections, "sequence": sequence})
