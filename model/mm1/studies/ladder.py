"""A scaling ladder: the loss of the largest size, predicted from the smaller ones before it is known.

    L(N, D) = E + A (N / N0)^-alpha + B (D / D0)^-beta

for N parameters and D tokens, as in Chinchilla (arXiv 2203.15556); the last term only if the tokens vary. N0 and D0 are
geometric means, which makes the numbers comparable. The fit is least squares over all cells. The interval of a prediction is
the delta method's, with Student's t for the number of cells minus that of the parameters; it includes the spread over the
seeds of the size that it predicts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mm1.errors import ConfigurationError
from mm1.manifests import Digest, Record

Vector = NDArray[np.float64]
MIN_SIZES = 4
"""Sizes that a curve with three parameters is fitted to, so that it can fail to fit."""
STARTS = tuple(product((0.1, 0.3, 0.6, 1.0), (0.1, 0.5, 0.9)))
"""Exponents, and shares of the lowest loss as E, from which the fit starts."""
MAX_EXPONENT = 3.0


class Rung(Record):
    """A training of one size."""

    size: float
    """N: non-embedding parameters of the decoder."""
    tokens: float
    """D: tokens of the training."""
    loss: float


class Curve(Record):
    """A fitted scaling law."""

    parameters: tuple[float, ...]
    """E, A, alpha, and B, beta if the tokens vary."""
    centre: tuple[float, float]
    """N0, D0."""
    covariance: tuple[tuple[float, ...], ...]
    """Of the parameters."""
    residual: float
    """Standard deviation of a cell around the curve."""
    degrees: int
    """Cells minus parameters."""

    def loss(self, size: float, tokens: float) -> float:
        """Return the loss of a size and a number of tokens."""
        return float(_losses(np.array(self.parameters), self._point(size, tokens))[0])

    def predict(self, size: float, tokens: float, num_seeds: int) -> Prediction:
        """Predict the mean loss of some seeds of a size, with a 95 % interval."""
        from scipy.stats import t as student

        gradient = _jacobian(np.array(self.parameters), self._point(size, tokens))[0]
        variance = float(gradient @ np.array(self.covariance) @ gradient) + self.residual**2 / num_seeds
        width = float(student.ppf(0.975, self.degrees)) * math.sqrt(variance)
        loss = self.loss(size, tokens)
        return Prediction(size=size, tokens=tokens, loss=loss, interval=(loss - width, loss + width))

    def _point(self, size: float, tokens: float) -> Vector:
        return np.array([[size / self.centre[0], tokens / self.centre[1]]])


class Prediction(Record):
    """A loss before it is known."""

    size: float
    tokens: float
    loss: float
    interval: tuple[float, float]
    """95 %."""

    def holds(self, loss: float) -> bool:
        """Whether a measured loss is in the interval."""
        return self.interval[0] <= loss <= self.interval[1]


class LadderResult(Record):
    """A predicted loss, and the measured one."""

    score: str
    level: str = ""
    """The largest size; empty if it is not a level, but the study's target."""
    rungs: tuple[Rung, ...] = ()
    """The cells that the prediction is from."""
    inputs: Digest | None = None
    """Digest of them and their checkpoints."""
    curve: Curve | None = None
    prediction: Prediction | None = None
    measured: dict[int, float] = Field({})
    """Seed -> loss of the largest size; empty: not trained yet."""
    refused: str = ""

    @property
    def error(self) -> float | None:
        """Mean measured loss minus the predicted one."""
        return fmean(self.measured.values()) - self.prediction.loss if self.prediction and self.measured else None

    @property
    def verdict(self) -> str:
        """What the measurement says about the prediction."""
        if self.prediction is None:
            return self.refused
        if self.error is None:
            return "not trained yet"
        held = self.prediction.holds(fmean(self.measured.values()))
        return f"{'inside' if held else 'outside of'} the interval, error {self.error:+.3f}"


def fit_curve(rungs: Sequence[Rung]) -> Curve:
    """Fit a scaling law to the losses of several sizes.

    Raises:
        ConfigurationError: fewer sizes or cells than the law needs.
    """
    num_parameters = _check(rungs)
    centre = tuple(math.exp(np.mean([math.log(getattr(rung, name)) for rung in rungs])) for name in ("size", "tokens"))
    points = np.array([[rung.size / centre[0], rung.tokens / centre[1]] for rung in rungs])
    losses = np.array([rung.loss for rung in rungs])
    solutions = (_solve(start, points, losses) for start in _starts(losses, num_parameters))
    best = min(solutions, key=lambda solution: float(solution.cost))
    degrees = len(rungs) - num_parameters
    variance = 2 * float(best.cost) / degrees
    covariance = variance * np.linalg.pinv(best.jac.T @ best.jac)
    return Curve(
        parameters=tuple(map(float, best.x)),
        centre=(centre[0], centre[1]),
        covariance=tuple(tuple(map(float, row)) for row in covariance),
        residual=math.sqrt(variance),
        degrees=degrees,
    )


def _check(rungs: Sequence[Rung]) -> int:
    """Return the number of parameters of the law; refuse what it cannot be fitted to."""
    num_sizes, num_tokens = (len({getattr(rung, name) for rung in rungs}) for name in ("size", "tokens"))
    num_parameters = 5 if num_tokens > 1 else 3
    if num_sizes < MIN_SIZES or len(rungs) <= num_parameters:
        raise ConfigurationError(
            f"sizes: expected at least {MIN_SIZES} below the one that is predicted and more than {num_parameters} cells, got "
            f"{num_sizes} and {len(rungs)}; add levels of other sizes, or seeds"
        )
    if (lowest := min(rung.loss for rung in rungs)) <= 0:
        raise ConfigurationError(f"losses: expected numbers above 0, got {lowest:g}; the law is about losses, not differences")
    return num_parameters


def _solve(start: Vector, points: Vector, losses: Vector) -> Any:
    from scipy.optimize import least_squares

    upper = np.array([losses.min(), np.inf, MAX_EXPONENT, np.inf, MAX_EXPONENT])[: len(start)]
    return least_squares(
        lambda parameters: _losses(parameters, points) - losses,
        start,
        jac=lambda parameters: _jacobian(parameters, points),
        bounds=(np.zeros(len(start)), upper),
        x_scale="jac",
    )


def _starts(losses: Vector, num_parameters: int) -> list[Vector]:
    starts = []
    for exponent, share in STARTS:
        floor = share * losses.min()
        scale = float(losses.mean() - floor) / (2 if num_parameters > 3 else 1)
        starts.append(np.array([floor, scale, exponent, scale, exponent])[:num_parameters])
    return starts


def _losses(parameters: Vector, points: Vector) -> Vector:
    losses = parameters[0] + parameters[1] * points[:, 0] ** -parameters[2]
    if len(parameters) > 3:
        losses = losses + parameters[3] * points[:, 1] ** -parameters[4]
    return np.asarray(losses)


def _jacobian(parameters: Vector, points: Vector) -> Vector:
    columns = [np.ones(len(points))]
    for axis in range(len(parameters) // 2):
        scale, exponent = parameters[1 + 2 * axis : 3 + 2 * axis]
        power = points[:, axis] ** -exponent
        columns += [power, -scale * power * np.log(points[:, axis])]
    return np.stack(columns, axis=1)
