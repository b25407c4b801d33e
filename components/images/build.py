"""Builds the component images, their bills of materials, and pins them by digest in a profile: what ``make images`` runs.

::

    lock -> bill of materials (runs/sbom/<image>.json) -> image (buildah, podman, docker) -> push -> `images:` of a profile

One ``Containerfile`` with a target for each image; an image that brings dependencies has a folder with their
``requirements.lock``. What a machine needs to reach its package index is passed by ``--build-args`` and as secrets of the build
(its pip.conf and uv.toml), so that none of it is written into an image.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from rich.console import Console

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
IMAGES = ("cpu", "trainer")
"""Images with dependencies, which `make images` builds by default; `thin` is for test clusters, and built when it is named."""
PROFILE_NAMES = {"cpu": ("cpu",), "trainer": ("trainer",), "thin": ("cpu", "trainer")}
"""Image -> names in a profile: the thin image does the work of both."""
SBOM_TOOL = "cyclonedx-bom==7.5.0"
SBOM_FOLDER = Path("runs/sbom")
ENGINES = ("buildah", "podman", "docker")
console = Console(highlight=False, soft_wrap=True)


class BuildError(Exception):
    """An image cannot be built; the message says why, and what to do."""


@dataclass(frozen=True)
class BuildEngine:
    """A program that builds images: buildah, podman or docker."""

    name: str

    @property
    def build_command(self) -> list[str]:
        """The start of its build command. Layers are kept, so that a change of the sources builds in seconds."""
        return {
            "buildah": ["buildah", "bud", "--layers", "--format", "oci"],
            "podman": ["podman", "build", "--layers", "--format", "oci"],
            "docker": ["docker", "build"],
        }[self.name]

    def push(self, tag: str) -> str:
        """Push a tag; the digest that the registry gives the image."""
        if self.name == "docker":
            run(["docker", "push", "--quiet", tag])
            digests: list[str] = json.loads(output_of(["docker", "image", "inspect", tag]))[0]["RepoDigests"]
            return next(item.rpartition("@")[2] for item in digests if item.startswith(tag.rpartition(":")[0] + "@"))
        with tempfile.TemporaryDirectory() as folder:
            digest_file = Path(folder) / "digest"
            run([self.name, "push", "--quiet", "--digestfile", str(digest_file), tag])
            return digest_file.read_text().strip()

    def inspect(self, tag: str) -> tuple[str, int]:
        """Digest of the manifest in the local store, and size in bytes."""
        if self.name == "buildah":
            config = json.loads(output_of(["buildah", "inspect", "--type", "image", tag]))
            layers = output_of(["buildah", "images", "--json", tag])
            return config["FromImageDigest"], size_of(json.loads(layers)[0]["size"])
        image = json.loads(output_of([self.name, "image", "inspect", tag]))[0]
        return image.get("Digest") or image["Id"], int(image["Size"])


def size_of(text: str) -> int:
    """Bytes of ``685 MB``."""
    number, unit = text.split()
    return round(float(number) * {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[unit.upper()])


def find_engine(wanted: str) -> BuildEngine:
    """The engine of that name, or the first that works here (docker's client without a server does not).

    Raises:
        BuildError: no such engine, or none works.
    """
    if wanted and wanted not in ENGINES:
        raise BuildError(f"ENGINE={wanted}: choose one of {', '.join(ENGINES)}")
    for name in [wanted] if wanted else ENGINES:
        check = [name, "info"] if name == "docker" else [name, "--version"]
        if shutil.which(name) and subprocess.run(check, capture_output=True).returncode == 0:
            return BuildEngine(name)
    raise BuildError(f"{wanted or ', '.join(ENGINES)}: not installed or not running; install one, or choose with ENGINE=")


def run(command: list[str]) -> None:
    """Run a program and show its output.

    Raises:
        BuildError: it failed.
    """
    if code := subprocess.run(command, cwd=ROOT).returncode:
        raise BuildError(f"{shlex.join(command[:2])} ended with {code}")


def output_of(command: list[str]) -> str:
    """The output of a program.

    Raises:
        BuildError: it failed; with the end of its errors.
    """
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise BuildError(f"{shlex.join(command[:3])} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


def write_sbom(name: str, keep_current: bool = False) -> Path:
    """Write the bill of materials of an image (CycloneDX), made from its lock.

    Args:
        name: of the image.
        keep_current: write nothing when the file is newer than what it is made from (writing one takes seconds).
    """
    lock = HERE / name / "requirements.lock"
    path = ROOT / SBOM_FOLDER / f"{name}.json"
    sources = (lock, ROOT / "pyproject.toml", Path(__file__))
    if keep_current and path.is_file() and path.stat().st_mtime >= max(source.stat().st_mtime for source in sources):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    uv = Path(sys.executable).with_name("uv")
    tool = [str(uv), "tool", "run", "--quiet", "--from", SBOM_TOOL, "cyclonedx-py", "requirements"]
    options = ["--output-reproducible", "--pyproject", str(sources[1]), "--output-file", str(path)]
    output_of([*tool, *options, str(lock)])
    path.chmod(0o644)  # pods read it, and they are not the user who builds
    return path


def build_command(engine: BuildEngine, name: str, tag: str, base: str, extra: list[str]) -> list[str]:
    """The command that builds an image."""
    base_image = ["--build-arg", f"BASE_IMAGE={base}"] if base else []
    labelling = [f"--label=org.opencontainers.image.{key}={value}" for key, value in labels().items()]
    options = [*secrets(), *base_image, *labelling, *extra, "--file", "components/images/Containerfile", "--target", name]
    return [*engine.build_command, *options, "--tag", tag, "."]


def secrets() -> list[str]:
    """This machine's configuration of pip and uv, for the build only."""
    home = Path.home()
    candidates: dict[str, list[str | Path]] = {
        "pip": [os.environ.get("PIP_CONFIG_FILE", ""), home / ".config/pip/pip.conf", home / ".pip/pip.conf", "/etc/pip.conf"],
        "uv": [os.environ.get("UV_CONFIG_FILE", ""), home / ".config/uv/uv.toml", "/etc/uv/uv.toml"],
    }
    files = {name: [path for path in paths if Path(path).is_file()] for name, paths in candidates.items()}
    return [f"--secret=id={name},src={paths[0]}" for name, paths in files.items() if paths]


def labels() -> dict[str, str]:
    """Labels of every image: version, revision, source."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return {"version": version, "revision": revision(), "source": source()}


def revision() -> str:
    """The commit, marked when the tree differs from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip() or "unknown"


def source() -> str:
    """Where the repository is, when that is a web address; without a user's name or password."""
    done = subprocess.run(["git", "remote", "get-url", "origin"], cwd=ROOT, capture_output=True, text=True)
    address = urlsplit(done.stdout.strip())
    return f"https://{address.hostname}{address.path}" if address.scheme == "https" and address.hostname else "unknown"


def pin(profile: Path, references: dict[str, str]) -> None:
    """Write references under ``images:`` of a profile file; the rest of the file stays as it is, comments too.

    Raises:
        BuildError: the file is no profile.
    """
    text = profile.read_text() if profile.is_file() else "# Images by digest; a profile (--profile FILE).\n"
    content: Any = yaml.safe_load(text) or {}
    if not isinstance(content, dict) or not isinstance(content.get("images") or {}, dict):
        raise BuildError(f"{profile}: not a profile (a map, with a map under images)")
    merged = (content.get("images") or {}) | references
    block = yaml.safe_dump({"images": merged}, sort_keys=False, width=500)
    old = re.search(r"^images:.*\n?(?:[ \t]+.*\n?|\n(?=[ \t]))*", text, re.MULTILINE)
    text = text[: old.start()] + block + text[old.end() :] if old else (text.rstrip("\n") + "\n").lstrip("\n") + block
    profile.parent.mkdir(parents=True, exist_ok=True)
    profile.write_text(text)


def build(arguments: argparse.Namespace) -> None:
    """Build, push if there is a registry, and pin."""
    engine = find_engine(arguments.engine)
    extra = shlex.split(arguments.build_args)
    prefix = arguments.registry.rstrip("/") or "localhost"
    references: dict[str, str] = {}
    for name in IMAGES if set(arguments.images) & set(IMAGES) else ():  # an engine may build both: trainer is built on cpu
        write_sbom(name, keep_current=True)
    for name in arguments.images:
        tag = f"{prefix}/mm1-{name}:{arguments.tag or revision()}"
        run(build_command(engine, name, tag, arguments.base_image, extra))
        digest, size = engine.inspect(tag)
        if arguments.registry:
            digest = engine.push(tag)
        references |= {entry: f"{prefix}/mm1-{name}@{digest}" for entry in PROFILE_NAMES[name]}
        console.print(f"{tag}  {size / 1e6:,.0f} MB  {digest}")
    pin(arguments.profile, references)
    pushed = "" if arguments.registry else " (of local images: a cluster needs REGISTRY=)"
    console.print(f"{arguments.profile}: {', '.join(references)} pinned{pushed}")


def sbom(arguments: argparse.Namespace) -> None:
    """Write the bills of materials."""
    for name in filter(IMAGES.__contains__, arguments.images):
        path = write_sbom(name)
        parts = json.loads(path.read_text())["components"]
        console.print(f"{path.relative_to(ROOT)}: {len(parts)} components")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Build the component images.")
    parser.add_argument("command", choices=["build", "sbom"])
    parser.add_argument("--images", type=str.split, default=[], help="some of: cpu trainer thin [default: cpu trainer]")
    parser.add_argument("--engine", default="", help="buildah, podman or docker [default: the first that works]")
    parser.add_argument("--base-image", default="", help="image to build on [default: an official Python]")
    parser.add_argument("--tag", default="", help="tag [default: the commit]")
    parser.add_argument("--registry", default="", help="registry and folder to push to [default: none, local images]")
    parser.add_argument("--profile", type=Path, default=Path("runs/images.yaml"), help="file that gets the digests")
    parser.add_argument("--build-args", default="", help="further options for the engine's build, as one text")
    arguments = parser.parse_args(argv)
    arguments.images = arguments.images or list(IMAGES)
    if unknown := [name for name in arguments.images if name not in PROFILE_NAMES]:
        parser.error(f"no image {unknown[0]!r}; there are {', '.join(PROFILE_NAMES)}")
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Run a command; the exit code."""
    arguments = parse(argv)
    try:
        {"build": build, "sbom": sbom}[arguments.command](arguments)
    except BuildError as error:
        console.print(f"[red]{error}[/red]")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
