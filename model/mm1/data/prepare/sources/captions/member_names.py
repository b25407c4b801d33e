"""Names of the members of an archive: key and ending, role, and members that are no part of a pair."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mm1.data.prepare.files.kinds import CAPTION_SUFFIXES, IMAGE_SUFFIXES

_TEXT_SUFFIXES = (*CAPTION_SUFFIXES, "text", "cap")
_REFUSED = re.compile(
    r"(?:^|/)(?:(?P<hidden>\.(?!\.?(?:/|$)))|(?P<macos>__MACOSX/)|(?P<folder>PaxHeaders[^/]*/|@eaDir/|lost\+found/)"
    r"|(?P<desktop>Thumbs\.db$|desktop\.ini$)|(?P<readme>(?:READ[-_]?ME|LICEN[CS]E|COPYING|CHANGELOG)(?:\.(?:txt|md|rst|html))?$))",
    re.IGNORECASE,
)
_REASONS = {
    "hidden": "hidden file",
    "macos": "macOS metadata",
    "folder": "folder of an archive tool",
    "desktop": "thumbnails or settings of a folder",
    "readme": "read-me or licence",
}


def reason_to_skip(name: str, previous: str = "") -> str:
    """Return why a member is no part of a pair, judged by its name; empty if it may be one.

    Args:
        name: its name.
        previous: the key of the member before it; the caption of a picture ``readme.jpg`` is no read-me.
    """
    match = _REFUSED.search(name)
    if match is None or match.lastgroup is None or (match.lastgroup == "readme" and previous == split_name(name)[0]):
        return ""
    return _REASONS[match.lastgroup]


def split_name(name: str) -> tuple[str, str]:
    """Split a member's name into key and ending, as webdataset does: at the first dot behind the last slash."""
    folder, slash, last = name.rpartition("/")
    stem, _, ending = last.partition(".")
    return f"{folder}{slash}{stem}", ending


class Endings:
    """The role of a member by its ending.

    Args:
        columns: endings given by the user: role -> ending or suffix; the caption may also be a field of the JSON.
    """

    def __init__(self, columns: Mapping[str, str]) -> None:
        self.columns = columns
        self._suffixes = dict.fromkeys(IMAGE_SUFFIXES, "image") | dict.fromkeys(_TEXT_SUFFIXES, "caption") | {"json": "json"}
        for role in ("image", "caption"):
            if role in columns:
                self._suffixes = {suffix: each for suffix, each in self._suffixes.items() if each != role}
        self._given = {columns[role].lower().lstrip("."): role for role in ("image", "caption") if role in columns}

    def is_given(self, ending: str) -> bool:
        """Whether the user named this ending."""
        return ending.lower() in self._given

    def role(self, ending: str) -> str:
        """Return image, caption or json; empty for any other ending."""
        ending = ending.lower()
        suffix = ending[ending.rfind(".") + 1 :]
        if self._given and (given := self._given.get(ending) or self._given.get(suffix)):
            return given
        return self._suffixes.get(suffix, "")
