"""Progress of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imports torch, which readers of a run do without
    from mm1.train.step import StepResult


@dataclass
class Progress:
    """Progress of a run; the counters are over the whole run, previous processes included."""

    total_steps: int
    total_tokens: int = 0
    """The run also ends after this many tokens without padding; 0 = it ends after its steps only."""
    step: int = 0
    """Optimizer steps done, spikes included."""
    tokens: int = 0
    """Tokens without padding."""
    source_tokens: dict[str, int] = field(default_factory=dict)
    """Tokens without padding of each source."""
    positions: int = 0
    """Token positions, padding included."""
    images: int = 0
    validation: dict[str, float] = field(default_factory=dict)
    """Source -> mean loss per predicted token of its held-out samples, at the last validation; empty before the first one."""
    validation_retrieval: dict[str, float] = field(default_factory=dict)
    """Source -> share of its held-out images whose caption is the most similar one, at the last validation."""
    validated_step: int = 0
    """Step of the last validation."""
    skipped: list[int] = field(default_factory=list)
    """Numbers of the global batches that are skipped because the run diverged at them."""

    spikes: int = 0
    """Steps that did not update the weights because their loss or gradient norm was a spike."""

    @property
    def batch(self) -> int:
        """Index of the next global batch in the mixture's order."""
        return self.step + len(self.skipped)

    @property
    def new_validation(self) -> dict[str, float]:
        """Validation losses after the current step; empty if it was not validated."""
        return self.validation if self.validated_step == self.step else {}

    @property
    def new_retrieval(self) -> dict[str, float]:
        """Held-out retrieval after the current step; empty if it was not validated."""
        return self.validation_retrieval if self.validated_step == self.step else {}

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.step >= self.total_steps or 0 < self.total_tokens <= self.tokens

    def advance(self, result: StepResult) -> None:
        """Count one more step."""
        self.step += 1
        self.tokens += result.tokens
        for name, tokens in result.source_tokens.items():
            self.source_tokens[name] = self.source_tokens.get(name, 0) + tokens
        self.positions += result.positions
        self.images += result.images
        self.spikes += not result.applied
