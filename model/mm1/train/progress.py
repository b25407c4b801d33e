"""How far a run is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch; whoever only looks at a run has no need of it
    from mm1.train.step import StepResult


@dataclass
class Progress:
    """How far a run is; the counters are over the whole run, former processes included."""

    total_steps: int
    total_tokens: int = 0
    """Tokens without padding after which the run ends too; 0 = steps alone count."""
    step: int = 0
    """Optimiser steps done."""
    tokens: int = 0
    """Tokens without padding."""
    positions: int = 0
    """Places for tokens, padding included."""
    images: int = 0
    skipped: list[int] = field(default_factory=list)
    """Global batches (by number) left out because the run diverged at them."""

    @property
    def batch(self) -> int:
        """Number of the next global batch in the mixture's order."""
        return self.step + len(self.skipped)

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.step >= self.total_steps or 0 < self.total_tokens <= self.tokens

    def advance(self, result: StepResult) -> None:
        """Count one more step."""
        self.step += 1
        self.tokens += result.tokens
        self.positions += result.positions
        self.images += result.images
