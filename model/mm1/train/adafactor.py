"""Adafactor (arXiv 1804.04235) on whole parameters, and on any partition of them over processes.

The second moment of a matrix is kept as one row and one column, of which every process has all; a partition only computes with
its own elements, and sums of squares over a row, a column or a parameter are completed by two small reductions a group::

    own elements -> sums of squared gradients by row and column, of squared weights -> [sum over processes] -> row_var, col_var
        -> own elements of the update -> sum of its squares -> [sum over processes] -> update clipped to RMS 1 -> weights

A rate has two meanings, and the choice is explicit, as AXLearn's required argument ``multiply_by_parameter_scale`` is. Without
parameter scaling, an update has an RMS of at most the rate, as AdamW's. With it, the rate is relative to the weights: the
update of a parameter is multiplied by the RMS of its weights, or by 1e-3 if that is larger, so that one that starts at zero
moves by a thousandth of the rate.

torch's Adafactor has no choice of scale, no first moment, needs whole parameters, and treats squared gradients below 1.4e-14 as
that number; transformers' needs whole parameters too.

Names of dimensions: M matrices of a parameter (1, or experts and the like), R rows, C columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

EPS = 1e-30
"""Added to squared gradients (optax, AXLearn)."""
SMALLEST_SCALE = 1e-3
"""Minimum RMS of weights that a rate is relative to."""
MAX_RMS = 1.0
"""RMS to which updates are clipped, before the rate (the paper's d)."""
DECAY_EXPONENT = -0.8
"""The second moment decays by 1 - step ** exponent."""

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Part:
    """Elements of a parameter in a tensor that the optimizer updates."""

    name: str
    shape: tuple[int, ...]
    """Shape of the whole parameter."""
    offset: int
    """First element, in the flattened parameter."""
    numel: int
    """Number of elements; 0 if other processes have all of them."""
    start: int
    """First element, in the flattened tensor."""

    @property
    def is_matrix(self) -> bool:
        """Whether the second moment is kept by row and column of the last two dimensions."""
        return len(self.shape) >= 2

    def of(self, flat: torch.Tensor) -> torch.Tensor:
        """Return the part's elements as a view of a flat tensor."""
        return flat[self.start : self.start + self.numel]


class Adafactor(torch.optim.Optimizer):
    """Adafactor without its own schedule.

    Args:
        groups: parameter groups with ``names``, ``lr`` and ``weight_decay`` (decoupled, as AdamW's).
        parameter_scale: whether rates are relative to the weights.
        first_moment: decay rate of the mean of updates; 0 = none.
    """

    def __init__(self, groups: list[dict[str, Any]], *, parameter_scale: bool, first_moment: float) -> None:
        super().__init__([{key: value for key, value in group.items() if key != "names"} for group in groups], {})
        self.parameter_scale, self.first_moment = parameter_scale, first_moment
        self.factors: dict[str, Tensors] = {}
        """Second moments of matrices by name: row_var (..., R, 1) and col_var (..., 1, C); whole on every process."""
        self.steps: dict[str, int] = {}
        """Updates of each parameter."""
        self._layout: dict[int, list[Part]] = {}
        for group in groups:
            for name, parameter in zip(group["names"], group["params"], strict=True):
                self._layout[id(parameter)] = [Part(name, tuple(parameter.shape), 0, parameter.numel(), 0)]
        self._all_sum: Callable[[torch.Tensor], torch.Tensor] = lambda values: values

    def partition(self, layout: dict[int, list[Part]], all_sum: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Update partitions from now on.

        Args:
            layout: by ``id`` of the tensors to update, their parts: the same names in the same order on every process.
            all_sum: sums a tensor over the processes.
        """
        self._layout, self._all_sum = layout, all_sum

    @property
    def parts(self) -> list[Part]:
        """All parts of this process, empty ones included."""
        return [part for parts in self._layout.values() for part in parts]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update the weights; gradients are overwritten."""
        for group in self.param_groups:
            for holder in group["params"]:
                if holder.grad is not None:
                    self._update(holder, group["lr"], group["weight_decay"])

    def _update(self, holder: torch.Tensor, lr: float, weight_decay: float) -> None:
        assert holder.grad is not None
        parts, held = self._layout[id(holder)], self.state[holder]
        weights, updates = holder.view(-1), holder.grad.contiguous().view(-1)
        keys = [key for key, needed in (("variance", not parts[0].is_matrix), ("exp_avg", self.first_moment > 0)) if needed]
        for key in keys:
            if key not in held:
                held[key] = torch.zeros_like(holder)
        scales = self._second_moments(parts, weights, updates, held.get("variance"))
        squares = torch.stack([part.of(updates).square().sum() for part in parts])
        rms = (self._all_sum(squares) / squares.new_tensor([math.prod(part.shape) for part in parts])).sqrt()
        for part, scale in zip(parts, (rms / MAX_RMS).clamp(min=1).reciprocal(), strict=True):
            part.of(updates).mul_(scale)
        if self.first_moment:
            updates = held["exp_avg"].view(-1).lerp_(updates, 1 - self.first_moment)
        weights.mul_(1 - lr * weight_decay)
        for part, scale in zip(parts, scales, strict=True):
            part.of(weights).sub_(part.of(updates) * (lr * scale))

    def _second_moments(
        self, parts: list[Part], weights: torch.Tensor, updates: torch.Tensor, variance: torch.Tensor | None
    ) -> torch.Tensor:
        """Divide gradients by their root mean squares, in place.

        Returns:
            Scale of each parameter: what the rate is relative to.
        """
        sums = [torch.stack([part.of(weights).square().sum() for part in parts])]
        if variance is None:
            sums += [_sums(part, updates) for part in parts]
        total, *squares = self._all_sum(torch.cat(sums)).split([len(own) for own in sums])
        for number, part in enumerate(parts):
            self.steps[part.name] = step = self.steps.get(part.name, 0) + 1
            weight = step**DECAY_EXPONENT
            own = part.of(updates)
            if variance is None:
                own.mul_(_inverse_roots(part, self._decayed(part, squares[number], weight)))
            else:
                own.mul_(part.of(variance).lerp_(own.square() + EPS, weight).rsqrt())
        if not self.parameter_scale:
            return torch.ones_like(total)
        return (total / total.new_tensor([math.prod(part.shape) for part in parts])).sqrt().clamp(min=SMALLEST_SCALE)

    def _decayed(self, part: Part, squares: torch.Tensor, weight: float) -> Tensors:
        """Move the second moments of a matrix towards its squared gradients."""
        *leading, rows, columns = part.shape
        by_row, by_column = squares.split([math.prod(leading) * rows, math.prod(leading) * columns])
        means = {
            "row_var": (by_row / columns + EPS).view(*leading, rows, 1),
            "col_var": (by_column / rows + EPS).view(*leading, 1, columns),
        }
        factors = self.factors.setdefault(part.name, {key: torch.zeros_like(mean) for key, mean in means.items()})
        for key, mean in means.items():
            factors[key].lerp_(mean, weight)
        return factors


@dataclass(frozen=True)
class _Rows:
    """Whole rows that contain a part; of several matrices, whole matrices."""

    first_matrix: int
    matrices: int
    first_row: int
    """Counted through all matrices."""
    rows: int
    before: int
    """Elements of the first row (or matrix) that precede the part."""

    @classmethod
    def of(cls, part: Part) -> _Rows:
        rows, columns = part.shape[-2:]
        single = len(part.shape) == 2
        unit = columns if single else rows * columns  # what a part is completed to
        first, before = divmod(part.offset, unit)
        count = -(-(before + part.numel) // unit)
        if single:
            return cls(0, 1, first, count, before)
        return cls(first, count, first * rows, count * rows, before)


def _sums(part: Part, updates: torch.Tensor) -> torch.Tensor:
    """Sum the squares of a part's elements by row and column of the whole parameter: (M * R + M * C)."""
    *leading, rows, columns = part.shape
    by_row = updates.new_zeros(math.prod(leading) * rows)
    by_column = updates.new_zeros(math.prod(leading), columns)
    if part.numel:
        span = _Rows.of(part)
        squares = updates.new_zeros(span.rows * columns)
        squares[span.before : span.before + part.numel] = part.of(updates).square()
        by_row[span.first_row : span.first_row + span.rows] = squares.view(-1, columns).sum(1)
        squares_MRC = squares.view(span.matrices, -1, columns)
        by_column[span.first_matrix : span.first_matrix + span.matrices] = squares_MRC.sum(1)
    return torch.cat([by_row, by_column.flatten()])


def _inverse_roots(part: Part, factors: Tensors) -> torch.Tensor:
    """Compute 1 / sqrt(row_var col_var / mean(row_var)) for the elements of a part."""
    if not part.numel:
        return factors["row_var"].new_empty(0)
    span = _Rows.of(part)
    row_var, columns = factors["row_var"], part.shape[-1]
    tiny = torch.finfo(row_var.dtype).tiny
    row_M, col_M = (row_var / row_var.mean(-2, keepdim=True)).clamp(min=tiny).rsqrt(), factors["col_var"].rsqrt()
    rows_MR1 = row_M.reshape(-1)[span.first_row : span.first_row + span.rows].view(span.matrices, -1, 1)
    columns_M1C = col_M.reshape(-1, 1, columns)[span.first_matrix : span.first_matrix + span.matrices]
    return (rows_MR1 * columns_M1C).flatten()[span.before : span.before + part.numel]
