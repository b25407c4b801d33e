"""A violation of a rule by a workflow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mm1.errors import ConfigurationError


@dataclass(frozen=True, order=True)
class Finding:
    """A violation of a rule."""

    rule: str
    """Id of the rule, for example P007."""
    where: str
    """The template, task or field."""
    message: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        return f"{self.rule} {self.where}: {self.message}"


class PolicyError(ConfigurationError):
    """A workflow violates the rules for all engines; the message has the rules and fields (exit code 80)."""

    def __init__(self, name: str, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        lines = "\n  ".join(str(finding) for finding in findings)
        super().__init__(f"{name} cannot run:\n  {lines}\n  (see `mm1 lint --explain {findings[0].rule}`)")
