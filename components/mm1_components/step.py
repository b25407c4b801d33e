r"""The wrapper that every step runs in.

A step is a module of this package with pydantic ``Inputs`` and ``Outputs``, a function ``run(inputs, context) -> Outputs`` and
a :class:`Step` that binds them. ``python -m mm1_components.<step> --name value ...`` goes through here::

    parse -> open store -> key -> cache hit? ----------------------------> outputs, artifacts, record
                                     \-> run (retriable work, resumable) -> cache entry /
                                              \-> typed error -> record, exit code of its outcome class

Between steps travel parameters only: scalars, and addresses of manifests. Paths are arguments (``--out.<name>``,
``--artifact.<name>``), because engines give them differently. Nothing below this file reads configuration from the environment.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from mm1.config.resolve import validate
from mm1.errors import ConfigurationError, Mm1Error, Outcome, OutOfMemory, Preempted, from_os_error
from mm1.manifests import MANIFEST_NAME, Manifest, ManifestT, load, manifest_key, publish
from mm1.store.base import BlobRef, Store, digest_of
from mm1.store.local import atomic_path
from mm1.store.open import open_store
from mm1_components.arguments import LAUNCHER_FLAG, build_parser, input_values, placement_fields, source_fields
from mm1_components.cache import cache_key, code_digest, folder_fingerprint
from mm1_components.launch.config import Launcher

log = logging.getLogger("mm1")

InputsT = TypeVar("InputsT", bound=BaseModel)
OutputsT = TypeVar("OutputsT", bound=BaseModel)
RECORD_VERSION = 1
WORLD_SCHEME = "world:"
BUCKET_SCHEME = "s3://"


@dataclass(frozen=True, kw_only=True)
class Step(Generic[InputsT, OutputsT]):
    """A step's declaration; engines' templates are made from it."""

    name: str
    """Name of the module in this package, and of the template."""
    inputs: type[InputsT]
    outputs: type[OutputsT]
    run: Callable[[InputsT, Context], OutputsT]
    summary: str
    """One line for `--help` and for template annotations."""
    pool: str = "cpu"
    """Node pool by name: cpu, train, eval."""
    artifacts: tuple[str, ...] = ()
    """Human artifacts (files) that it leaves, for example report.html."""
    cached: bool = True
    """False: it runs every time."""
    state: Callable[[InputsT, Store], str] | None = None
    """What the outcome depends on besides the inputs (for example rows that were added to a store); part of the cache key."""
    distributed: bool = False
    """Runs torchrun; on a cluster through the supervisor."""
    timeout_s: int = 86_400
    grace_s: int = 60
    """Seconds between SIGTERM and SIGKILL in which it saves what it has."""

    @property
    def module(self) -> str:
        """What ``python -m`` starts."""
        return f"mm1_components.{self.name}"


@dataclass(kw_only=True)
class Context:
    """What a running step may use besides its inputs."""

    store: Store
    run: str
    task: str
    key: str
    """The cache key of this execution."""
    code: str
    """Digest of the step's code."""
    work: Path
    """Scratch folder of this execution; removed at its end."""
    artifacts: dict[str, Path]
    progress_file: Path | None = None
    launcher: Launcher | None = None
    """How to start ranks on a cluster; None: on this machine."""
    facts: dict[str, Any] = field(default_factory=dict)

    def load(self, uri: str, kind: type[ManifestT]) -> ManifestT:
        """Read and verify an input manifest, from its own store."""
        return load(uri, kind)

    def publish(self, manifest: Manifest) -> str:
        """Write an output manifest and give its address."""
        return publish(self.store, manifest)

    def artifact(self, name: str) -> Path:
        """Where to write a declared human artifact."""
        path = self.artifacts[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def progress(self, done: int, total: int) -> None:
        """Say how far the work is; engines show it (the file holds ``done/total``, as Argo wants it)."""
        if self.progress_file:
            with atomic_path(self.progress_file) as temporary:
                temporary.write_text(f"{done}/{total}\n")

    def note(self, **facts: Any) -> None:
        """Add facts to the run record (provenance: speeds, sizes, durations)."""
        self.facts.update(facts)


def main(step: Step[Any, Any], argv: Sequence[str] | None = None) -> None:
    """Run a step as a process and exit with its outcome's code."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    arguments = build_parser(step).parse_args(argv)
    logging.Formatter.default_msec_format = None
    sys.exit(int(execute(step, arguments)))


def execute(step: Step[Any, Any], arguments: argparse.Namespace) -> Outcome:
    """Run a step from parsed arguments; errors end in the record and in the outcome."""
    started = time.time()
    record: dict[str, Any] = {
        "schema_version": RECORD_VERSION,
        "run": arguments.run,
        "task": arguments.task or step.name,
        "step": step.name,
        "state": "running",
        "started": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "host": {"name": socket.gethostname(), "processor": _processor(), "cores": os.cpu_count()},
    }
    store: Store | None = None
    message = ""
    try:
        with _stop_on_signals():
            store = open_store(arguments.store)
            if arguments.once and (former := _former_final_outcome(store, record)):
                return former
            _save_record(store, record)
            _work(step, arguments, store, record)
        outcome = Outcome.DONE
    except Mm1Error as error:
        outcome, message = error.outcome, str(error)
    except MemoryError:
        outcome, message = Outcome.OUT_OF_MEMORY, str(OutOfMemory("out of memory: choose a smaller micro-batch"))
    except OSError as error:
        typed = from_os_error(error)
        outcome, message = typed.outcome, str(typed)
        log.debug("caused by", exc_info=error)
    except Exception as error:  # noqa: BLE001 - the last line of defence: recorded, shown with its trace, exit 1
        outcome, message = Outcome.UNHANDLED, f"{type(error).__name__}: {error}"
        log.error("%s", traceback.format_exc())
    if outcome is not Outcome.DONE:
        log.error("%s failed (%s, exit %d): %s", step.name, outcome.name.lower(), outcome, message)
    record |= {"state": "done" if outcome is Outcome.DONE else "failed", "outcome": int(outcome), "message": message}
    record |= {
        "ended": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "seconds": round(time.time() - started, 3),
    }
    if store is not None:
        _save_record(store, record)
    return outcome


def _work(step: Step[Any, Any], arguments: argparse.Namespace, store: Store, record: dict[str, Any]) -> None:
    inputs = validate(step.inputs, input_values(step, arguments), f"{step.name} inputs")
    values = inputs.model_dump(mode="json")
    launcher = _launcher(step, arguments)
    code = code_digest(step.module)
    decisive = {name: value for name, value in values.items() if name not in placement_fields(step.inputs)}
    if step.state:
        decisive["state"] = step.state(inputs, store)
    key = cache_key(step.name, code, decisive, _fingerprints(step, values))
    record |= {"inputs": values, "code": code, "cache_key": key, "cache_hit": False}
    artifacts = {name: getattr(arguments, f"artifact.{name}") for name in step.artifacts}
    entry_key = f"cache/{step.name}/{key}.json"
    use_cache = step.cached and not arguments.no_cache
    if use_cache and (outputs := _cached(store, entry_key, artifacts)) is not None:
        log.info("%s: cached (%s), nothing to do", step.name, key[:12])
        record |= {"cache_hit": True, "outputs": outputs}
        _write_outputs(arguments, outputs)
        return
    with _scratch(arguments.work, key) as work:
        context = Context(
            store=store,
            run=arguments.run,
            task=record["task"],
            key=key,
            code=code,
            work=work,
            artifacts={name: path or work / "artifacts" / name for name, path in artifacts.items()},
            progress_file=arguments.progress,
            launcher=launcher,
        )
        try:
            result = step.run(inputs, context)
        finally:
            record["facts"] = context.facts
        outputs = validate(step.outputs, result.model_dump()).model_dump(mode="json")
        stored = {name: store.put_file(path) for name, path in context.artifacts.items() if path.is_file()}
    record |= {"outputs": outputs, "artifacts": {name: ref.model_dump() for name, ref in stored.items()}}
    if step.cached:
        store.write_json(entry_key, {"outputs": _relative(outputs), "artifacts": record["artifacts"], "code": code})
    _write_outputs(arguments, outputs)


def _launcher(step: Step[Any, Any], arguments: argparse.Namespace) -> Launcher | None:
    text = arguments.launcher if step.distributed else None
    if not text:
        return None
    try:
        return validate(Launcher, json.loads(text), LAUNCHER_FLAG)
    except ValueError as error:
        raise ConfigurationError(f"{LAUNCHER_FLAG} is not JSON: {error}") from None


def _fingerprints(step: Step[Any, Any], values: dict[str, Any]) -> dict[str, str]:
    """What stands for inputs that name raw files; a path that is not there is refused before any work."""
    found = {}
    for name in source_fields(step.inputs):
        value = values[name]
        is_word = value == step.inputs.model_fields[name].default  # such as tokenizer=train
        if value and not is_word and not value.startswith(WORLD_SCHEME) and not MANIFEST_NAME.match(value):
            if value.startswith(BUCKET_SCHEME):
                found[name] = _bucket_fingerprint(value)
                continue
            path = Path(value).expanduser()
            if not path.exists():
                raise ConfigurationError(f"{name}: no such file or folder: {value}")
            found[name] = folder_fingerprint(path)
    return found


def _bucket_fingerprint(address: str) -> str:
    """What stands for raw files in a bucket: names, sizes and tags of all objects; contents are not read."""
    from mm1.config.resolve import canonical_json
    from mm1.data.sources.roots import BucketRoot

    files = BucketRoot(address, Path(tempfile.gettempdir())).list()
    return digest_of(canonical_json([file.model_dump() for file in files]).encode())


def _cached(store: Store, entry_key: str, artifacts: dict[str, Path | None]) -> dict[str, Any] | None:
    """Outputs of a former execution, when all that they refer to is still there."""
    entry = store.read_json(entry_key)
    if entry is None:
        return None
    outputs = {name: _absolute(store, value) for name, value in entry["outputs"].items()}
    digests = [match["digest"] for value in outputs.values() if (match := MANIFEST_NAME.match(str(value)))]
    if not all(store.exists(manifest_key(digest)) for digest in digests):
        return None
    for name, ref in entry["artifacts"].items():
        if path := artifacts.get(name):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(store.get_bytes(BlobRef(**ref)))
    return outputs


def _relative(outputs: dict[str, Any]) -> dict[str, Any]:
    matches = {name: MANIFEST_NAME.match(str(value)) for name, value in outputs.items()}
    return {name: f"@{match['digest']}" if (match := matches[name]) else value for name, value in outputs.items()}


def _absolute(store: Store, value: Any) -> Any:
    is_reference = isinstance(value, str) and value.startswith("@") and len(value) == 65
    return f"{store.uri}/{manifest_key(value[1:])}" if is_reference else value


def _write_outputs(arguments: argparse.Namespace, outputs: dict[str, Any]) -> None:
    for name, value in outputs.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        log.info("output %s = %s", name, text)
        if path := getattr(arguments, f"out.{name}"):
            with atomic_path(path) as temporary:
                temporary.write_text(text)


def record_key(run: str, task: str) -> str:
    """The object's name of a run record; a looped task carries its item in its name, so what is no file name is replaced."""
    plain = re.sub(r"[^-\w.]+", "_", task)
    suffix = "" if plain == task else f"-{digest_of(task.encode())[:8]}"
    return f"runs/{run}/{plain[:120]}{suffix}.json"


def _save_record(store: Store, record: dict[str, Any]) -> None:
    if "attempts" not in record:
        former = store.read_json(record_key(record["run"], record["task"])) or {}
        record["attempts"] = int(former.get("attempts", 0)) + 1
    store.write_json(record_key(record["run"], record["task"]), record)


def _former_final_outcome(store: Store, record: dict[str, Any]) -> Outcome | None:
    """An engine that retries blindly (Kubeflow) starts a step again that ended for good: end with that at once."""
    former = store.read_json(record_key(record["run"], record["task"])) or {}
    outcome = Outcome.from_exit_code(former.get("outcome", 0))
    if outcome is Outcome.DONE or outcome.retried:
        return None
    log.error("this task ended for good before (%s): %s", outcome.name.lower(), former.get("message"))
    return outcome


@contextmanager
def _scratch(base: Path | None, key: str) -> Iterator[Path]:
    parent = base or Path(tempfile.gettempdir())
    parent.mkdir(parents=True, exist_ok=True)
    work = parent / f"mm1-{key[:12]}-{uuid.uuid4().hex[:8]}"
    work.mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _stop_on_signals() -> Iterator[None]:
    """Turn the first SIGTERM or SIGINT into an orderly end; a second one is left to its default effect."""

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise Preempted(f"stopped by {signal.Signals(number).name}; run the same command again to continue")

    former = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
