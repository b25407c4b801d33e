"""The verification card of a training run: what made it, on what, with which result, and how to run it again.

    training step -> card.yaml (status: partial, or complete) -> mm1 verify -> the same run again, compared -> resume proof

A card has no paths, hosts or addresses of stores: manifests are named by their digests (``@<sha256>`` in the inputs of a step).
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeInt, PositiveInt, ValidationError, model_validator

from mm1.config.resolve import explain
from mm1.errors import ConfigurationError
from mm1.manifests import MANIFEST_NAME, manifest_key
from mm1.store.local import atomic_path

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
STORE = "STORE"
"""Stands for the store in the commands of a card."""


class Part(BaseModel):
    """Base class of the parts of a card."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class StepCall(Part):
    """A call of a step, and the digest of its manifest."""

    task: str
    step: str
    """Name of its module in mm1_components."""
    inputs: dict[str, Any]
    """Inputs that are not the default; ``@<sha256>`` is the manifest of that digest."""
    manifest: Digest

    @classmethod
    def of(cls, task: str, step: str, inputs: dict[str, Any], manifest: str) -> StepCall:
        """Create the call from inputs with addresses, and the address of its manifest."""
        return cls(
            task=task,
            step=step,
            inputs={name: _digest_for_address(value) for name, value in inputs.items()},
            manifest=digest_of_address(manifest),
        )

    @property
    def needs(self) -> list[str]:
        """Digests of the manifests that it reads."""
        return [value[1:] for value in self.inputs.values() if _is_reference(value)]

    def arguments(self, store: str) -> list[str]:
        """Return the options for its inputs, with manifests in the given store."""
        result = []
        for name, value in self.inputs.items():
            text = f"{store}/{manifest_key(value[1:])}" if _is_reference(value) else str(value)
            result += ["--" + name.replace("_", "-"), text.lower() if isinstance(value, bool) else text]
        return result

    def command(self, store: str = STORE) -> str:
        """Return the command that runs it again."""
        return shlex.join(["python", "-m", f"mm1_components.{self.step}", *self.arguments(store), "--store", store])


class Code(Part):
    """The code of a run."""

    commit: str = ""
    """``git describe`` of the checkout, with ``-dirty`` if files differ from it; empty if there is none."""
    digest: Digest
    """Digest of the sources and of the lock of the dependencies."""


class Hardware(Part):
    """The machines of a run, those of rank 0 if they differ."""

    processor: str
    cores: int
    memory_gb: int
    """Of one machine, 10^9 bytes."""
    gpu: str = ""
    """Name of the GPU; empty = none."""
    processes: int
    """Ranks over all machines."""
    threads: int
    """Threads of torch per rank."""


class Results(Part):
    """Results that are the same on the same hardware, bit by bit."""

    manifest: Digest
    """Of the finished Checkpoint."""
    steps: PositiveInt
    tokens: NonNegativeInt
    losses: dict[str, FiniteFloat]
    """Mean loss of the last steps: `all`, and each source."""
    validation_losses: dict[str, FiniteFloat] = {}
    """Mean loss of the held-out samples of each source after the last step."""


class Speed(Part):
    """Measurements."""

    tokens_per_s: FiniteFloat
    mfu: FiniteFloat | None = None
    """Share of the GPUs' bfloat16 peak; None if the peak is unknown, as on CPUs."""
    peak_memory_gb: FiniteFloat | None = None
    """Of rank 0, 10^9 bytes."""
    goodput: FiniteFloat | None = None
    """Share of the wall time since the first start in which steps ran that count."""


class ResumeProof(Part):
    """A run that was stopped and resumed, against an undisturbed one."""

    stopped_after: int
    """Step after which it was stopped."""
    equal: bool
    """Whether both have the same manifest, bit by bit."""
    commit: str = ""
    """``git describe`` of the code that was verified."""


class Card(Part):
    """The verification card of a training run."""

    schema_version: Literal[1] = 1
    recipe: str
    stage: str
    status: Literal["complete", "partial"]
    reasons: tuple[str, ...] = ()
    """Why it is partial."""
    command: str
    """Runs the training again; STORE is the address of a store."""
    run: StepCall
    """The training step."""
    made_by: tuple[StepCall, ...] = ()
    """Steps that made its data and its initial checkpoint, earliest first."""
    config: Digest
    """Digest of the resolved configuration."""
    code: Code
    hardware: Hardware
    versions: dict[str, str]
    results: Results
    speed: Speed
    tolerance: Annotated[FiniteFloat, Field(ge=0)] = 0.05
    """Largest relative difference of a loss on other hardware, versions or code."""
    resume: ResumeProof | None = None
    """Made by `mm1 verify`."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.command != self.run.command():
            raise ValueError("command: it is not that of `run`, so the card was edited: use the card.yaml that the step wrote")
        return self

    def to_yaml(self) -> str:
        """Return the text of card.yaml."""
        plain = self.model_dump(mode="json", exclude_none=True)
        return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=10_000)  # commands on one line

    def with_proof(self, proof: ResumeProof) -> Card:
        """Return the card with a resume proof, complete if nothing else is missing."""
        reasons = [reason for reason in self.reasons if reason != NO_PROOF and FAILED_PROOF not in reason]
        if not proof.equal:
            reasons.append(f"resumed after step {proof.stopped_after}, {FAILED_PROOF}")
        status: Literal["complete", "partial"] = "partial" if reasons else "complete"
        return self.model_copy(update={"resume": proof, "reasons": tuple(reasons), "status": status})

    def write(self, path: Path) -> None:
        """Write card.yaml."""
        with atomic_path(path) as temporary:
            temporary.write_text(self.to_yaml())


NO_PROOF = "resume not proved yet: mm1 verify CARD --write"
FAILED_PROOF = "it ended with another manifest"


def read_card(path: Path) -> Card:
    """Read a card.

    Raises:
        ConfigurationError: missing, or not a card.
    """
    try:
        return Card.model_validate(yaml.safe_load(path.read_text()))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: expected YAML: {' '.join(str(error).split())[:200]}") from None
    except ValidationError as error:
        raise ConfigurationError(f"{path}: expected the card.yaml of a training step: {explain(error)[:300]}") from None


def digest_of_address(address: str) -> str:
    """Return the digest in the address of a manifest; empty if it is none."""
    match = MANIFEST_NAME.match(address)
    return match["digest"] if match else ""


def _digest_for_address(value: Any) -> Any:
    digest = digest_of_address(value) if isinstance(value, str) else ""
    return f"@{digest}" if digest else value


def _is_reference(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("@") and len(value) == 65
