"""References to environment variables in the fields of a container, ``$(NAME)``, which Kubernetes expands."""

from __future__ import annotations

import re
from collections.abc import Mapping

_VARIABLE = re.compile(r"\$(?:(?P<escaped>\$)|\((?P<name>[^)]*)\))")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` by the variable's value and ``$$`` by ``$``, as Kubernetes does in command, args and env.

    Args:
        text: the text.
        variables: environment variables of the container; a reference to another name is left as it is.
    """

    def value(match: re.Match[str]) -> str:
        return "$" if match["escaped"] else variables.get(match["name"], match[0])

    return _VARIABLE.sub(value, text)
