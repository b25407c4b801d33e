"""A recipe's model for planning: everything is read from an empty model, once for all layouts of a run."""

from __future__ import annotations

from functools import cached_property, lru_cache

from mm1.modeling.configuration import MM1Config
from mm1.train.batch_plan import check_forecast
from mm1.train.config import ModelConfig, RunConfig, SequenceConfig
from mm1.train.empty_model import EVERYTHING, Trained, empty_model
from mm1.train.flops import UnitFlops, count_flops, count_forward
from mm1.train.model import model_config
from mm1.train.plan.activations import Precision, UnitBytes
from mm1.train.plan.saved import unit_bytes
from mm1.train.plan.shapes import backward_shapes, parameter_shapes, trained_shapes


class Blueprint:
    """Properties of a model in training that are known without building it.

    Args:
        config: of the model.
        trained: what the run trains.

    Raises:
        ConfigurationError: a name in `trained` matches nothing, or nothing is left to train.
    """

    def __init__(self, config: MM1Config, trained: Trained = EVERYTHING) -> None:
        self.config = config
        self.trained = trained
        model = empty_model(config, trained)
        self.shapes = parameter_shapes(model)
        """Names and shapes of all parameters, adapters included."""
        self.trained_shapes = trained_shapes(model)
        """Those that are trained."""
        self.backward_shapes = backward_shapes(self.shapes, self.trained_shapes)
        """Those in parts with a backward pass."""
        self._units: dict[Precision, UnitBytes] = {}

    @cached_property
    def flops(self) -> UnitFlops:
        """FLOPs per unit of work."""
        return count_flops(self.config, self.trained)

    @cached_property
    def forward_flops(self) -> UnitFlops:
        """FLOPs of the forward pass per unit of work."""
        return count_forward(self.config, self.trained)

    def unit_bytes(self, precision: Precision) -> UnitBytes:
        """Count the bytes of activations per unit of work."""
        if precision not in self._units:
            self._units[precision] = self._count(precision)
        return self._units[precision]

    def _count(self, precision: Precision) -> UnitBytes:
        units = unit_bytes(self.config, precision, self.trained)
        # Gradients inside a layer have the dtype of its products, and those of the copies of its input are short-lived.
        return units if precision != "autocast" else units.with_widest_of(self.unit_bytes("bfloat16"))


def blueprint_of(config: RunConfig) -> Blueprint:
    """Build the blueprint of a recipe that has all parts and a sequence; equal ones are built once.

    Raises:
        ConfigurationError: a size is not in the recipe, its stage is not forecast, or what it freezes does not fit the model.
    """
    check_forecast(config)
    return _blueprint(config.model, config.sequence, Trained.of(config.train))


@lru_cache(maxsize=16)
def _blueprint(model: ModelConfig, sequence: SequenceConfig | None, trained: Trained) -> Blueprint:
    return Blueprint(model_config(model, sequence), trained)
