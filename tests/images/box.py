"""Component images run by podman or docker as a restricted pod would: no root, no network, nothing to write to but /tmp."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mm1.manifests import digest_of_manifest, manifest_key
from mm1.store.local import LocalStore
from tests.support.mixtures import build_mix, make_samples
from tests.support.tiny_runs import MIX, SMALL_PARTS

RESTRICTED = (
    *("--network", "none", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges"),
)
TRAINING = (*SMALL_PARTS, "train.steps=2", "train.global_batch=2", "train.micro_batch=2", "train.checkpoint_every=2")
UNPACK = "import tarfile; tarfile.open('/data/store.tar').extractall('/tmp')"


def find_engine() -> str | None:
    """An engine that runs images here."""
    for name in ("podman", "docker"):
        if shutil.which(name) and subprocess.run([name, "info"], capture_output=True).returncode == 0:
            return name
    return None


@dataclass(frozen=True)
class Box:
    """An image and what runs it."""

    engine: str
    name: str
    image: str

    def run(self, *command: str, data: Path | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in a new container; ``data`` is mounted at /data, read-only."""
        mounts = ["--volume", f"{data}:/data:ro"] if data else []
        extra = shlex.split(os.environ.get("MM1_IMAGE_RUN_ARGS", ""))
        words = [self.engine, "run", "--rm", *RESTRICTED, *extra, *mounts, self.image, *command]
        done = subprocess.run(words, capture_output=True, text=True, timeout=600)
        if check and done.returncode:
            shown = shlex.join(command)[:300]
            raise AssertionError(f"{shown} ended with {done.returncode}\n{done.stdout}{done.stderr[-4000:]}")
        return done

    def python(self, code: str, *arguments: str) -> Any:
        """What a program prints, read as JSON."""
        return json.loads(self.run("python", "-c", code, *arguments).stdout)

    def facts(self) -> dict[str, Any]:
        """The image's own record."""
        done = subprocess.run([self.engine, "image", "inspect", self.image], capture_output=True, text=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout)[0]
        return found


@dataclass(frozen=True)
class Work:
    """A small store in one file, which a container or a pod unpacks, and what to do with it."""

    folder: Path
    raw: str
    mix: str

    @property
    def steps(self) -> dict[str, str]:
        """Image -> shell line of one step that it is made for."""
        unpack = f"python -c {shlex.quote(UNPACK)}"
        out = "--store=file:///tmp/store --out.manifest=/tmp/manifest"
        light = f"python -m mm1_components.data_mix --data=file:///tmp/store/{self.raw} --weights=text=1 {out}"
        sizes = "--sequence-length=64 --max-images=6 --image-tokens=4 --image-size=16"
        settings = " ".join(f"--set {one}" for one in TRAINING)
        train = f"python -m mm1_components.pretrain --data=file:///tmp/store/{self.mix} --recipe=mm1_tiny {settings} {out}"
        last = "cat /tmp/manifest"
        return {"cpu": f"{unpack} && {light} {sizes} && {last}", "trainer": f"{unpack} && {train} && {last}"}


def make_work(folder: Path) -> Work:
    """Invented samples in a store, packed into ``store.tar``; less than a MiB, so that a ConfigMap can hold it."""
    store = LocalStore(folder / "store")
    samples = {name: make_samples(name, 40) for name in MIX}
    raw, mix = build_mix(store, folder / "raw", weights=MIX, samples=samples)
    data = folder / "data"
    data.mkdir()
    with tarfile.open(data / "store.tar", "w:gz") as tar:
        tar.add(folder / "store", "store")
    return Work(data, manifest_key(digest_of_manifest(raw)), manifest_key(digest_of_manifest(mix)))
