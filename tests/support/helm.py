"""Helm for tests: render a chart and read what came out, install and uninstall it.

Both major versions are used side by side (`helm` is 4, `helm3` is 3 on the test bed); values go in through standard input.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

BINARIES = ("helm", "helm3")
_SOURCE = re.compile(r"^---\n# Source: [^/\n]+/(?P<path>[^\n]+)\n", re.MULTILINE)


class HelmError(Exception):
    """Helm refused; the message is what it said."""


def installed() -> list[str]:
    """The versions that are there."""
    return [name for name in BINARIES if shutil.which(name)]


@dataclass(frozen=True)
class Helm:
    """One version of Helm, working on one chart."""

    binary: str
    chart: Path

    def run(self, *arguments: str, values: dict[str, Any] | None = None, timeout_s: float = 300) -> str:
        """What a command prints.

        Raises:
            HelmError: it failed.
        """
        command = [self.binary, *arguments]
        if values is not None:
            command += ["--values", "-"]
        done = subprocess.run(
            command, input=yaml.safe_dump(values or {}), capture_output=True, text=True, timeout=timeout_s, check=False
        )
        if done.returncode:
            raise HelmError(done.stderr.strip() or done.stdout.strip())
        return done.stdout

    def text(self, values: dict[str, Any] | None = None, namespace: str = "there", release: str = "mm1") -> str:
        """The rendered chart."""
        return self.run("template", release, str(self.chart), "--namespace", namespace, values=values or {})

    def objects(self, values: dict[str, Any] | None = None, namespace: str = "there") -> list[dict[str, Any]]:
        """The rendered objects."""
        return [document for document in yaml.safe_load_all(self.text(values, namespace)) if document]

    def install(self, release: str, namespace: str, values: dict[str, Any], *more: str) -> str:
        """Install, or upgrade what is installed; gives the notes."""
        where = ["--namespace", namespace]
        return self.run("upgrade", "--install", release, str(self.chart), *where, *more, values=values)

    def uninstall(self, release: str, namespace: str) -> None:
        """Remove the release and wait until it is gone."""
        self.run("uninstall", release, "--namespace", namespace, "--wait", "--ignore-not-found")


def by_source(text: str) -> dict[str, list[str]]:
    """The documents of `helm template` by the chart's file that they came from."""
    parts = _SOURCE.split(text)
    found: dict[str, list[str]] = {}
    for path, document in zip(parts[1::2], parts[2::2], strict=True):
        found.setdefault(path, []).append(document)
    return found


def named(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """The one object of a kind and name."""
    [found] = [one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name]
    return found
