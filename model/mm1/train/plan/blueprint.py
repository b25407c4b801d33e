"""A recipe's model for planning: everything is read from an empty model, once for all layouts of a run."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, lru_cache

from mm1.modeling.configuration import MM1Config
from mm1.train.batch_plan import check_forecast
from mm1.train.config import ModelConfig, RunConfig, SequenceConfig
from mm1.train.empty_model import empty_model
from mm1.train.flops import UnitFlops, count_flops
from mm1.train.model import model_config
from mm1.train.plan.activations import Precision, UnitBytes
from mm1.train.plan.saved import unit_bytes
from mm1.train.plan.shapes import Shapes, parameter_shapes


class Blueprint:
    """Properties of a model that are known without building it.

    Args:
        config: of the model.
    """

    def __init__(self, config: MM1Config) -> None:
        self.config = config
        self._units: dict[Precision, UnitBytes] = {}

    @cached_property
    def shapes(self) -> Shapes:
        """Names and shapes of the parameters."""
        return parameter_shapes(empty_model(self.config))

    @cached_property
    def flops(self) -> UnitFlops:
        """FLOPs per unit of work."""
        return count_flops(self.config)

    def unit_bytes(self, precision: Precision) -> UnitBytes:
        """Count the bytes of activations per unit of work."""
        if precision not in self._units:
            self._units[precision] = self._count(precision)
        return self._units[precision]

    def _count(self, precision: Precision) -> UnitBytes:
        units = unit_bytes(self.config, precision)
        if precision != "autocast":
            return units
        # Gradients inside a layer have the dtype of its products, and those of the copies of its input are short-lived.
        narrow = self.unit_bytes("bfloat16")
        return replace(units, image=units.image.with_widest_of(narrow.image), token=units.token.with_widest_of(narrow.token))


def blueprint_of(config: RunConfig) -> Blueprint:
    """Build the blueprint of a recipe that has all parts and a sequence; equal ones are built once.

    Raises:
        ConfigurationError: a size is not in the recipe, or its stage is not forecast.
    """
    check_forecast(config)
    return _blueprint(config.model, config.sequence)


@lru_cache(maxsize=16)
def _blueprint(model: ModelConfig, sequence: SequenceConfig | None) -> Blueprint:
    return Blueprint(model_config(model, sequence))
