"""Debian packages, downloaded and unpacked into a cache folder. Nothing is installed, and root is not needed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple


class Package(NamedTuple):
    """A package with pictures or pages."""

    name: str
    licence: str
    content: str
    folder: str
    """Folder of its files in the package."""


STAMPS = Package(
    "tuxpaint-stamps-default", "GPL-2", "photos and drawings with captions in 77 languages", "usr/share/tuxpaint/stamps"
)
CLIPART = Package("openclipart-svg", "public domain", "drawings with titles", "usr/share/openclipart/svg")
MANUAL = Package("gimp-help-en", "GFDL-1.2+", "the manual of GIMP, illustrated pages", "usr/share/gimp/2.0/help/en")
HANDBOOK = Package(
    "debian-handbook",
    "GPL-2+ or CC-BY-SA-3.0",
    "The Debian Administrator's Handbook",
    "usr/share/doc/debian-handbook/html/en-US",
)
FONT = Package("fonts-noto-color-emoji", "OFL-1.1", "pictures of emoji, as bitmaps of a font", "usr/share/fonts/truetype/noto")
NAMES = Package("unicode-cldr-core", "Unicode", "names of emoji in many languages", "usr/share/unicode/cldr/common")


class FetchError(Exception):
    """A package cannot be downloaded or unpacked; the message names the reason and the remedy."""


def default_cache() -> Path:
    """Return the folder of downloaded packages: ``mm1/real_data`` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mm1" / "real_data"


def fetch(package: Package, cache: Path) -> Path:
    """Download and unpack a package, unless the cache has it.

    Returns:
        The folder of its files.

    Raises:
        FetchError: apt is missing, or the package cannot be downloaded.
    """
    unpacked = cache / package.name
    if not unpacked.is_dir():
        work = cache / f"{package.name}.part"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        file = _download(package.name, work, cache)
        print(f"{package.name} ({file.stat().st_size / 1e6:.0f} MB, {package.licence}): {package.content}", flush=True)
        _run(["dpkg-deb", "-x", str(file), str(work / "files")], work)
        (work / "files").rename(unpacked)
        shutil.rmtree(work)
    folder = unpacked / package.folder
    if not folder.is_dir():
        raise FetchError(f"{package.name} has no folder {package.folder}: this example knows the version of Debian 12")
    return folder


def _download(name: str, folder: Path, cache: Path) -> Path:
    """Download a package with the machine's package lists, or with fresh ones in the cache if those do not have it."""
    missing = [program for program in ("apt-get", "dpkg-deb") if not shutil.which(program)]
    if missing:
        raise FetchError(f"{missing[0]} is missing: this example needs Debian or Ubuntu, or a container of one of them")
    sandbox = ["-o", "APT::Sandbox::User="] if os.geteuid() == 0 else []
    try:
        _run(["apt-get", *sandbox, "download", name], folder)
    except FetchError as first:
        lists = cache / "apt" / "lists"
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        options = [*sandbox, "-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={lists.parent}"]
        try:
            _run(["apt-get", *options, "update"], folder)
            _run(["apt-get", *options, "download", name], folder)
        except FetchError:
            raise first from None
    return next(folder.glob(f"{name}_*.deb"))


def _run(command: list[str], folder: Path) -> None:
    environment = {**os.environ, "LC_ALL": "C"}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        reason = (ended.stderr.strip() or ended.stdout.strip()).splitlines()[-1:] or [f"exit code {ended.returncode}"]
        raise FetchError(f"{' '.join(command)} failed: {reason[0]}; check the network and /etc/apt/sources.list")
