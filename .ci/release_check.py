"""What is missing for a release: `make release-check`. Prints one line per check and exits with 1 when one fails.

It builds the wheel from what is committed, and the site of the documentation.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from mm1_workflows.authoring import profiles

ROOT = Path(__file__).resolve().parents[1]
VERSION: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
TAG = re.compile(r"v[0-9]+\.[0-9]+\.[0-9]+(-rc\.[0-9]+)?")
HEADING = re.compile(r"^## (\S+)(?: [-–(].*)?$", re.MULTILINE)


def run(*command: str, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    """Run a command; its output.

    Raises:
        RuntimeError: it fails; the message has the end of its output.
    """
    ended = subprocess.run(command, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} failed: {(ended.stdout + ended.stderr)[-500:].strip()}")
    return ended.stdout.strip()


def committed() -> Iterator[str]:
    """Everything is committed."""
    if changes := run("git", "status", "--porcelain"):
        yield f"commit or remove: {', '.join(line.split(maxsplit=1)[1] for line in changes.splitlines())}"


def changelog() -> Iterator[str]:
    """The newest heading of CHANGELOG.md is the version."""
    newest = HEADING.findall((ROOT / "CHANGELOG.md").read_text())[0]
    if newest.strip("[]") != VERSION:
        yield f"CHANGELOG.md: the newest heading is {newest!r}, expected {VERSION!r} as in pyproject.toml"


def tag() -> Iterator[str]:
    """The tag is v<version>, and not used by another commit."""
    name = f"v{VERSION}"
    if not TAG.fullmatch(name):
        yield f"pyproject.toml: expected a version such as 1.2.3 or 1.2.3-rc.1, got {VERSION!r}"
    if run("git", "tag", "--list", name) and name not in run("git", "tag", "--points-at", "HEAD").split():
        yield f"tag {name} is at another commit: raise the version"


def versions() -> Iterator[str]:
    """Chart, images of the default profile and citation have the version."""
    chart = yaml.safe_load((ROOT / "charts/mm1/Chart.yaml").read_text())
    versions = {"charts/mm1/Chart.yaml: appVersion": str(chart["appVersion"])}
    versions["CITATION.cff: version"] = str(yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"])
    for name, image in profiles.default().images.items():
        versions[f"default profile: tag of image {name}"] = image.partition("@")[0].rpartition(":")[2]
    for field, version in versions.items():
        if version != VERSION:
            yield f"{field}: expected {VERSION!r} as in pyproject.toml, got {version!r}"


def formats() -> Iterator[str]:
    """The files that later versions have to read are committed."""
    file = f"tests/golden/formats/{VERSION}.tar.xz"
    if not run("git", "ls-files", file):
        yield f"{file} is missing: run make golden and commit it"


def wheel() -> Iterator[str]:
    """The wheel builds from the commit, and its packages import."""
    packages = ("mm1", "mm1_components", "mm1_workflows")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory() as name:
        source, site = Path(name, "source"), Path(name, "site")
        source.mkdir()
        run("git", "archive", "--output", f"{name}/source.tar", "HEAD")
        run("tar", "-xf", f"{name}/source.tar", "-C", str(source))
        run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", name, str(source))
        (built,) = Path(name).glob("*.whl")
        if built.name.split("-")[1] != VERSION:
            yield f"wheel: expected version {VERSION!r}, got {built.name}"
        run(*pip, "install", "--no-deps", "--target", str(site), str(built))
        code = f"import {', '.join(packages)}; print({', '.join(f'{package}.__file__' for package in packages)}, sep='\\n')"
        files = run(sys.executable, "-c", code, cwd=Path(name), env={"PYTHONPATH": str(site)}).splitlines()
        yield from (f"wheel: lacks {file}" for file in files if not file.startswith(str(site)))


def docs() -> Iterator[str]:
    """The documentation builds strictly."""
    run("make", "--no-print-directory", "docs")
    yield from ()


CHECKS: tuple[Callable[[], Iterator[str]], ...] = (committed, changelog, tag, versions, formats, wheel, docs)


def main() -> int:
    """Run all checks."""
    missing = 0
    for check in CHECKS:
        try:
            problems = list(check())
        except RuntimeError as error:
            problems = [str(error)]
        print(f"{'no' if problems else 'ok'}  {check.__doc__}")
        for problem in problems:
            print(f"      {problem}")
        missing += len(problems)
    print(f"{missing} missing" if missing else f"ready: git tag v{VERSION}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
