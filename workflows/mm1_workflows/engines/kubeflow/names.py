"""Names that are allowed in Python signatures, which is what Kubeflow makes interfaces from."""

from __future__ import annotations

import keyword
import re

RESERVED = {"Output", "self"}


class Names:
    """Gives each thing of one interface its own name: letters, digits and underscores."""

    def __init__(self) -> None:
        self.taken: set[str] = set()

    def make(self, wanted: str) -> str:
        """The wanted name if it is allowed and free, else one close to it."""
        plain = re.sub(r"\W", "_", wanted)
        if not plain.isidentifier() or keyword.iskeyword(plain) or plain in RESERVED:
            plain = f"p_{plain}"
        name, number = plain, 2
        while name in self.taken:
            name, number = f"{plain}_{number}", number + 1
        self.taken.add(name)
        return name
