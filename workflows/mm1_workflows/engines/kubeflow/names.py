"""Names for Python signatures, from which Kubeflow derives interfaces."""

from __future__ import annotations

import keyword
import re

RESERVED = {"Output", "self"}


class Names:
    """The names of an interface: unique Python identifiers."""

    def __init__(self) -> None:
        self.taken: set[str] = set()

    def make(self, preferred: str) -> str:
        """Return the preferred name if it is valid and unused, otherwise a similar one."""
        plain = re.sub(r"\W", "_", preferred)
        if not plain.isidentifier() or keyword.iskeyword(plain) or plain in RESERVED:
            plain = f"p_{plain}"
        name, number = plain, 2
        while name in self.taken:
            name, number = f"{plain}_{number}", number + 1
        self.taken.add(name)
        return name
