"""The columns and fields of a file that are read, chosen by their roles."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from mm1.data.prepare.files.raw import RawInput
from mm1.data.prepare.files.roles import ROLES, column_for
from mm1.errors import DataError

log = logging.getLogger(__name__)
_MAX_NAMES = 300


class Fields:
    """Chooses the column or field of a role, and logs each guess once.

    Args:
        file: the file; names given by the user are in its ``columns``.
    """

    def __init__(self, file: RawInput) -> None:
        self._file = file
        self._chosen: dict[tuple[str, tuple[str, ...]], str | None] = {}
        self._logged: set[tuple[str, str]] = set()

    def choose(self, role: str, names: Iterable[str]) -> str | None:
        """Choose the name of a role; None if there is none."""
        names = tuple(names)
        if (role, names) not in self._chosen:
            if len(self._chosen) > _MAX_NAMES:  # every row has other fields
                self._chosen.clear()
            self._chosen[role, names] = column_for(role, names, self._file.columns)
            self._log(role, self._chosen[role, names])
        return self._chosen[role, names]

    def need(self, role: str, names: Iterable[str]) -> str:
        """Choose the column of a role.

        Raises:
            DataError: there is none.
        """
        names = list(names)
        name = self.choose(role, names)
        if name is None:
            expected = self._file.columns.get(role) or " or ".join(ROLES[role][:3])
            raise DataError(
                f"{self._file.name}: no column {expected}; its columns are {listed(names)}; "
                f"name it with columns={self._file.source}.{role}=NAME"
            )
        return name

    def _log(self, role: str, name: str | None) -> None:
        if name is None or role in self._file.columns or name in (role, ROLES[role][0]) or (role, name) in self._logged:
            return
        self._logged.add((role, name))
        option = f"columns={self._file.source}.{role}=NAME"
        log.info("%s: the %s is read from %r; choose another one with %s", self._file.name, role, name, option)


def listed(names: Iterable[str]) -> str:
    """List names for a message."""
    text = ", ".join(str(name)[:40] for name in names) or "none"
    return text if len(text) <= _MAX_NAMES else f"{text[:_MAX_NAMES]}..."
