"""Build the component images and their bills of materials, and pin them by digest in a profile (``make images``).

::

    lock -> bill of materials (runs/sbom/<image>.json) -> image (buildah, podman, docker) -> push -> `images:` of a profile

One ``Containerfile`` has a target for each image; an image with dependencies has a folder with their ``requirements.lock``.
Settings of the package index are passed by ``--build-args`` and as build secrets (pip.conf and uv.toml of this machine), so
they are not written into an image.
"""

from __future__ import annotations

import argparse
import hashlib
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
"""Images with dependencies, built by default; `thin` is for test clusters and only built on request."""
PROFILE_NAMES = {"cpu": ("cpu",), "trainer": ("trainer",), "thin": ("cpu", "trainer")}
"""Image -> names in a profile; the thin image serves as both."""
SBOM_TOOL = "cyclonedx-bom==7.5.0"
AUDIT_TOOL = "pip-audit==2.9.0"
SBOM_FOLDER, PROVENANCE_FOLDER = Path("runs/sbom"), Path("runs/provenance")
CONTAINERFILE = Path("components/images/Containerfile")
ENGINES = ("buildah", "podman", "docker")
console = Console(highlight=False, soft_wrap=True)


class BuildError(Exception):
    """An image cannot be built; the message has the cause and the remedy."""


@dataclass(frozen=True)
class BuildEngine:
    """A program that builds images: buildah, podman or docker."""

    name: str

    @property
    def build_command(self) -> list[str]:
        """Start of the build command. Layers are cached, so a change of the sources builds in seconds."""
        return {
            "buildah": ["buildah", "bud", "--layers", "--format", "oci"],
            "podman": ["podman", "build", "--layers", "--format", "oci"],
            "docker": ["docker", "build"],
        }[self.name]

    def push(self, tag: str) -> str:
        """Push a tag and return the image's digest in the registry."""
        if self.name == "docker":
            run(["docker", "push", "--quiet", tag])
            digests: list[str] = json.loads(output_of(["docker", "image", "inspect", tag]))[0]["RepoDigests"]
            return next(item.rpartition("@")[2] for item in digests if item.startswith(tag.rpartition(":")[0] + "@"))
        with tempfile.TemporaryDirectory() as folder:
            digest_file = Path(folder) / "digest"
            run([self.name, "push", "--quiet", "--digestfile", str(digest_file), tag])
            return digest_file.read_text().strip()

    def inspect(self, tag: str) -> tuple[str, int]:
        """Return the digest of the manifest in the local store, and the size in bytes."""
        if self.name == "buildah":
            config = json.loads(output_of(["buildah", "inspect", "--type", "image", tag]))
            layers = output_of(["buildah", "images", "--json", tag])
            return config["FromImageDigest"], size_of(json.loads(layers)[0]["size"])
        image = json.loads(output_of([self.name, "image", "inspect", tag]))[0]
        return image.get("Digest") or image["Id"], int(image["Size"])


def size_of(text: str) -> int:
    """Parse a size such as ``685 MB`` into bytes."""
    number, unit = text.split()
    return round(float(number) * {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[unit.upper()])


def find_engine(requested: str) -> BuildEngine:
    """Return the requested engine, or the first that works on this machine (docker's client needs a server).

    Raises:
        BuildError: no such engine, or none works.
    """
    if requested and requested not in ENGINES:
        raise BuildError(f"ENGINE: expected one of {', '.join(ENGINES)}, got {requested}")
    for name in [requested] if requested else ENGINES:
        check = [name, "info"] if name == "docker" else [name, "--version"]
        if shutil.which(name) and subprocess.run(check, capture_output=True).returncode == 0:
            return BuildEngine(name)
    raise BuildError(f"{requested or ', '.join(ENGINES)}: not installed or not running; install one of them, or set ENGINE=")


def run(command: list[str]) -> None:
    """Run a program and show its output.

    Raises:
        BuildError: it failed.
    """
    if code := subprocess.run(command, cwd=ROOT).returncode:
        raise BuildError(f"{shlex.join(command[:2])} failed (exit code {code})")


def output_of(command: list[str]) -> str:
    """Run a program and return its output.

    Raises:
        BuildError: it failed; the message has the end of its standard error.
    """
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if result.returncode:
        raise BuildError(f"{shlex.join(command[:3])} failed (exit code {result.returncode}): {result.stderr.strip()[-500:]}")
    return result.stdout


def write_sbom(name: str, keep_current: bool = False) -> Path:
    """Write the bill of materials of an image (CycloneDX) from its lock.

    Args:
        name: name of the image.
        keep_current: keep a file that is newer than its sources (writing one takes seconds).
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
    path.chmod(0o644)  # read by pods, which run as another user
    return path


def build_command(engine: BuildEngine, name: str, tag: str, base: str, extra: list[str]) -> list[str]:
    """Return the command that builds an image."""
    base_image = ["--build-arg", f"BASE_IMAGE={base}"] if base else []
    labelling = [f"--label=org.opencontainers.image.{key}={value}" for key, value in labels().items()]
    options = [*secrets(), *base_image, *labelling, *extra, "--file", str(CONTAINERFILE), "--target", name]
    return [*engine.build_command, *options, "--tag", tag, "."]


def secrets() -> list[str]:
    """Return the options that pass this machine's pip and uv configuration to the build only."""
    home = Path.home()
    candidates: dict[str, list[str | Path]] = {
        "pip": [os.environ.get("PIP_CONFIG_FILE", ""), home / ".config/pip/pip.conf", home / ".pip/pip.conf", "/etc/pip.conf"],
        "uv": [os.environ.get("UV_CONFIG_FILE", ""), home / ".config/uv/uv.toml", "/etc/uv/uv.toml"],
    }
    files = {name: [path for path in paths if Path(path).is_file()] for name, paths in candidates.items()}
    return [f"--secret=id={name},src={paths[0]}" for name, paths in files.items() if paths]


def write_provenance(name: str, tag: str, digest: str, base: str, builder: str) -> Path:
    """Write how an image was made: an in-toto statement with a predicate of SLSA provenance (v1), to be signed.

    Args:
        name: name of the image.
        tag: its tag.
        digest: its digest, ``sha256:...``.
        base: the base image; empty = that of the Containerfile.
        builder: URI of who builds: a CI job, or this machine.
    """
    containerfile = (ROOT / CONTAINERFILE).read_text()
    base = base or re.findall(r"^ARG BASE_IMAGE=(.+)$", containerfile, re.MULTILINE)[0]
    files = [CONTAINERFILE, Path("requirements-setup.lock"), HERE.relative_to(ROOT) / name / "requirements.lock"]
    hashes = {path: hashlib.sha256((ROOT / path).read_bytes()).hexdigest() for path in files if (ROOT / path).is_file()}
    commit = output_of(["git", "rev-parse", "HEAD"]).strip()
    definition = {
        "buildType": "https://mm1.dev/build/images/v1",
        "externalParameters": {"image": name, "baseImage": base},
        "internalParameters": {"revision": revision()},
        "resolvedDependencies": [
            {"uri": f"git+{source()}", "digest": {"gitCommit": commit}},
            *({"name": str(path), "digest": {"sha256": sha256}} for path, sha256 in hashes.items()),
        ],
    }
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": tag.rpartition(":")[0], "digest": {"sha256": digest.removeprefix("sha256:")}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {"buildDefinition": definition, "runDetails": {"builder": {"id": builder}}},
    }
    path = ROOT / PROVENANCE_FOLDER / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(statement, indent=1) + "\n")
    return path


def labels() -> dict[str, str]:
    """Return the labels of every image: version, revision, source."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return {"version": version, "revision": revision(), "source": source()}


def revision() -> str:
    """Return the commit, marked if the working tree is dirty."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip() or "unknown"


def source() -> str:
    """Return the repository's address if it is on the web, without user name and password."""
    result = subprocess.run(["git", "remote", "get-url", "origin"], cwd=ROOT, capture_output=True, text=True)
    address = urlsplit(result.stdout.strip())
    return f"https://{address.hostname}{address.path}" if address.scheme == "https" and address.hostname else "unknown"


def pin(profile: Path, references: dict[str, str]) -> None:
    """Write references under ``images:`` of a profile; the rest of the file, including comments, does not change.

    Raises:
        BuildError: the file is not a profile.
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
    """Build the images, push them if a registry is given, and pin them."""
    engine = find_engine(arguments.engine)
    extra = shlex.split(arguments.build_args)
    prefix = arguments.registry.rstrip("/") or "localhost"
    references: dict[str, str] = {}
    for name in IMAGES if set(arguments.images) & set(IMAGES) else ():  # both, because trainer is built on cpu
        write_sbom(name, keep_current=True)
    for name in arguments.images:
        tag = f"{prefix}/mm1-{name}:{arguments.tag or revision()}"
        run(build_command(engine, name, tag, arguments.base_image, extra))
        digest, size = engine.inspect(tag)
        if arguments.registry:
            digest = engine.push(tag)
        references |= {entry: f"{prefix}/mm1-{name}@{digest}" for entry in PROFILE_NAMES[name]}
        write_provenance(name, tag, digest, arguments.base_image, arguments.builder)
        console.print(f"{tag}  {size / 1e6:,.0f} MB  {digest}")
    pin(arguments.profile, references)
    pushed = "" if arguments.registry else " (local images; set REGISTRY= for a cluster)"
    console.print(f"{arguments.profile}: {', '.join(references)} pinned{pushed}")


def sbom(arguments: argparse.Namespace) -> None:
    """Write the bills of materials."""
    for name in filter(IMAGES.__contains__, arguments.images):
        path = write_sbom(name)
        parts = json.loads(path.read_text())["components"]
        console.print(f"{path.relative_to(ROOT)}: {len(parts)} components")


def audit(arguments: argparse.Namespace) -> None:
    """Compare the locks of the images with known vulnerabilities.

    Raises:
        BuildError: a package has one, or the database, which is online only, cannot be reached.
    """
    uv = Path(sys.executable).with_name("uv")
    for name in filter(IMAGES.__contains__, arguments.images):
        lock = HERE / name / "requirements.lock"
        tool = [str(uv), "tool", "run", "--quiet", "--from", AUDIT_TOOL, "pip-audit"]
        command = [*tool, "--disable-pip", "--require-hashes", "--vulnerability-service", "osv", "--requirement", str(lock)]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        console.print(result.stdout, end="", markup=False)
        last = (result.stderr.strip().splitlines() or [""])[-1]
        if result.returncode and not result.stdout.strip():
            raise BuildError(f"{name}: nothing was compared, because the database (api.osv.dev) is online only: {last[:200]}")
        if result.returncode:
            raise BuildError(f"{name}: {last[:200]}: update the package in requirements.in and run `make lock`")
        console.print(f"{lock.relative_to(ROOT)}: {last}")


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Build the component images.")
    parser.add_argument("command", choices=["build", "sbom", "audit"])
    parser.add_argument("--images", type=str.split, default=[], help="some of: cpu trainer thin [default: cpu trainer]")
    parser.add_argument("--engine", default="", help="buildah, podman or docker [default: the first that works]")
    parser.add_argument("--base-image", default="", help="base image [default: an official Python]")
    parser.add_argument("--tag", default="", help="tag [default: the commit]")
    parser.add_argument("--registry", default="", help="registry and folder to push to [default: none, local images]")
    parser.add_argument("--profile", type=Path, default=Path("runs/images.yaml"), help="profile to write the digests to")
    parser.add_argument("--builder", default="urn:mm1:local", help="URI of who builds [default: urn:mm1:local]")
    parser.add_argument("--build-args", default="", help="additional options for the build command, in one string")
    arguments = parser.parse_args(argv)
    arguments.images = arguments.images or list(IMAGES)
    if unknown := [name for name in arguments.images if name not in PROFILE_NAMES]:
        parser.error(f"--images: expected {', '.join(PROFILE_NAMES)}, got {unknown[0]!r}")
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Run a command and return the exit code."""
    arguments = parse(argv)
    try:
        {"build": build, "sbom": sbom, "audit": audit}[arguments.command](arguments)
    except BuildError as error:
        console.print(f"[red]{error}[/red]")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
