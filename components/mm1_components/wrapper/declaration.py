"""The declaration of a step, and the context in which it runs.

A step is a module of :mod:`mm1_components` with pydantic ``Inputs`` and ``Outputs``, a function
``run(inputs, context) -> Outputs`` and a :class:`Step` that binds them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args

from pydantic import BaseModel

from mm1.errors import ConfigurationError
from mm1.manifests import Manifest, ManifestT, load, publish
from mm1.monitoring.logs import LogSettings
from mm1.store.base import Store
from mm1.store.local import atomic_path

InputsT = TypeVar("InputsT", bound=BaseModel)
OutputsT = TypeVar("OutputsT", bound=BaseModel)


@dataclass(frozen=True, kw_only=True)
class Step(Generic[InputsT, OutputsT]):
    """A step's declaration, from which the engines' templates are generated."""

    name: str
    """Name of the template, and of the module for the steps of :mod:`mm1_components`."""
    inputs: type[InputsT]
    outputs: type[OutputsT]
    run: Callable[[InputsT, Context], OutputsT]
    summary: str
    """One line for `--help` and for template annotations."""
    pool: str = "cpu"
    """Kind of node pool: cpu, train, eval."""
    artifacts: tuple[str, ...] = ()
    """Files for people that the step writes, for example report.html."""
    cached: bool = True
    """False: the step runs every time."""
    kind: str = ""
    """Kind of the manifest of the output ``manifest``, such as ``DataMix``; a remembered one of another kind does not count."""
    fits: Callable[[InputsT, Manifest], str] | None = None
    """Why a remembered manifest cannot be the result of these inputs; returns an empty string if it can."""
    state: Callable[[InputsT, Store], str] | None = None
    """State that the result depends on in addition to the inputs (for example rows in a store); part of the cache key."""
    recalled: Callable[[InputsT, dict[str, Any]], dict[str, Any]] | None = None
    """Outputs of a cached result for these inputs, for outputs that are not part of the result, such as a budget's rest."""
    checks: tuple[Callable[..., object], ...] = ()
    """Checks of inputs, run before the workflow starts and again in the step (:mod:`mm1_components.wrapper.checks`)."""
    distributed: bool = False
    """The step runs torchrun, on a cluster through the supervisor."""
    account: str = ""
    """Service account of its pods: a field of the profile's `accounts`; empty: step, or supervisor of a distributed step."""
    timeout_s: int = 86_400
    grace_s: int = 60
    """Seconds between SIGTERM and SIGKILL, in which the step saves its state."""

    def __post_init__(self) -> None:
        """Refuse inputs of type Path: the cache would know the path, but not the content of the file.

        Raises:
            ConfigurationError: an input is a Path.
        """
        for name, info in self.inputs.model_fields.items():
            if Path in (info.annotation, *get_args(info.annotation)):
                raise ConfigurationError(
                    f"step {self.name}: input {name}: expected a type of mm1_components.wrapper.sources, such as LocalFiles, "
                    "got Path, whose content the cache does not see"
                )

    @property
    def module(self) -> str:
        """The module that declares the inputs, for ``python -m``."""
        name = self.inputs.__module__
        if name != "__main__":
            return name
        main = sys.modules["__main__"]
        return main.__spec__.name if main.__spec__ else Path(str(main.__file__)).stem


FIGURES_FILE = "figures"
"""File next to the progress file, with a line of figures."""


@dataclass(kw_only=True)
class Context:
    """The store, scratch folder and reporting functions of a running step."""

    store: Store
    run: str
    task: str
    key: str
    """The cache key of this execution."""
    code: str
    """Digest of the step's code."""
    work: Path
    """Scratch folder of this execution, removed afterwards."""
    artifacts: dict[str, Path]
    progress_file: Path | None = None
    launcher: str = ""
    """How to start ranks on a cluster, as JSON (:class:`mm1_components.ranks.launcher.Launcher`); empty: on this machine."""
    metrics_port: int | None = None
    """Port on this machine for the metrics of a training whose ranks run on this machine; None: no server."""
    logs: LogSettings = field(default_factory=LogSettings)
    """The form of the log, also of processes that the step starts."""
    use_cache: bool = True
    """Whether results of earlier executions may be used; False with ``--no-cache``."""
    facts: dict[str, Any] = field(default_factory=dict)
    nested: list[bool] = field(default_factory=list)
    """For each step that ran within this one (:mod:`mm1_components.wrapper.nested`): whether its result was cached."""

    def load(self, uri: str, kind: type[ManifestT]) -> ManifestT:
        """Read and verify an input manifest from its own store."""
        return load(uri, kind)

    def publish(self, manifest: Manifest) -> str:
        """Write an output manifest and return its address."""
        return publish(self.store, manifest)

    def artifact(self, name: str) -> Path:
        """Return the path of a declared artifact, after creating its folder.

        Raises:
            ConfigurationError: the step does not declare it.
        """
        if name not in self.artifacts:
            raise ConfigurationError(f"artifact {name!r} is not declared in the step's `artifacts`: add it to STEP")
        path = self.artifacts[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def progress(self, done: int, total: int) -> None:
        """Report progress to the engine (``done/total`` in the progress file, as in Argo)."""
        if self.progress_file:
            with atomic_path(self.progress_file) as temporary:
                temporary.write_text(f"{done}/{total}\n")

    def figures(self, line: str) -> None:
        """Show a line of figures next to the progress: speed, time left."""
        if self.progress_file:
            with atomic_path(self.progress_file.with_name(FIGURES_FILE)) as temporary:
                temporary.write_text(line)

    def note(self, **facts: Any) -> None:
        """Add facts to the run record, such as speeds, sizes and durations."""
        self.facts.update(facts)
