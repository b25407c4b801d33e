"""Retries of a task, with the meaning that Argo gives to ``retryStrategy``.

A failed attempt is retried if the policy covers it, the expression (if any) is true, and limit and time allow it. Without an
expression the default policy is OnFailure, with one it is Always. Read from ``processNodeRetries`` in
workflow/controller/operator.go of Argo Workflows 4.0. Of its expression language (expr-lang) every engine of this project
understands comparisons of ``asInt(lastRetry.exitCode)`` and ``lastRetry.status`` that are joined by ``&&``, ``||`` and ``!``.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from mm1.errors import RETRIED, ConfigurationError
from mm1_workflows.argo.expressions import parse_duration

RETRY_CODES = tuple(sorted(int(outcome) for outcome in RETRIED))
RETRY_EXPRESSION = f'asInt(lastRetry.exitCode) in [{", ".join(map(str, RETRY_CODES))}] || lastRetry.status == "Error"'
"""Retries transient outcome classes, and pods that the cluster lost (status Error)."""
UNLIMITED = 2**31 - 1
"""Number of retries without a limit: Argo retries for ever (rule P012 asks for a limit)."""
POLICIES = ("Always", "OnFailure", "OnError")
"""Supported policies; Argo's OnTransientError depends on the settings of its controller."""

_TOKEN = re.compile(r"""\s*(?:(?P<word>[A-Za-z_][\w.]*)|(?P<other>\d+|'[^'\\]*'|"[^"\\]*"|&&|\|\||[!=<>]=|[<>!()\[\],]))""")
_PYTHON = {"&&": " and ", "||": " or ", "!": " not ", "true": "True", "false": "False"}
_JOINS = ("&&", "||", "and", "or")
_COMPARED: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, items: item in items,
    ast.NotIn: lambda item, items: item not in items,
}


@dataclass(frozen=True)
class Retry:
    """The retries of a task."""

    limit: int = 0
    """Maximum number of retries."""
    policy: str = "OnFailure"
    """One of :data:`POLICIES`; a process that ends with an exit code has failed, a pod that the cluster lost is an error."""
    expression: str = ""
    wait_s: float = 0.0
    factor: float = 1.0
    max_wait_s: float = math.inf
    max_time_s: float = math.inf
    """Time after the start of the first attempt beyond which no retry starts, s."""

    def covers(self, exit_code: int) -> bool:
        """Whether an attempt that ended with this exit code is retried, as far as limit and time allow it."""
        if self.limit == 0 or self.policy == "OnError":
            return False
        return not self.expression or evaluate(self.expression, exit_code)

    def wait_before(self, attempt: int) -> float:
        """Return the seconds to wait before a retry (the first one is attempt 1)."""
        return min(self.wait_s * self.factor ** (attempt - 1), self.max_wait_s)


def read_retry(strategy: Mapping[str, Any] | None) -> Retry:
    """Read a ``retryStrategy`` within the subset."""
    if strategy is None:
        return Retry()
    backoff = strategy.get("backoff") or {}
    expression = strategy.get("expression") or ""
    return Retry(
        limit=UNLIMITED if strategy.get("limit") is None else int(strategy["limit"]),
        policy=strategy.get("retryPolicy") or ("Always" if expression else "OnFailure"),
        expression=expression,
        wait_s=parse_duration(backoff.get("duration")),
        factor=float(backoff.get("factor") or 1),
        max_wait_s=parse_duration(backoff.get("cap"), math.inf),
        max_time_s=parse_duration(backoff.get("maxDuration"), math.inf),
    )


def retry_codes(expression: str | None) -> frozenset[int] | None:
    """Return the exit codes that an expression retries; None if it is not within the subset, or does not look at them."""
    try:
        if not expression or "lastRetry.exitCode" not in expression:
            return None
        return frozenset(code for code in range(1, 256) if evaluate(expression, code))
    except ConfigurationError:
        return None


def evaluate(expression: str, exit_code: int) -> bool:
    """Evaluate a retry expression for a failed attempt.

    Args:
        expression: the expression.
        exit_code: exit code of the attempt.

    Raises:
        ConfigurationError: it is not within the subset.
    """
    return bool(_value(_parsed(expression), {"lastRetry.exitCode": str(exit_code), "lastRetry.status": "Failed"}))


@cache
def _parsed(expression: str) -> ast.expr:
    """Parse an expression into Python's tree, and check that Python and expr-lang understand it in the same way."""
    tokens = _tokens(expression)
    _check_negations(tokens)
    source = "".join(_PYTHON.get(word, f" {word} ") for word in tokens)
    try:
        tree = ast.parse(source.strip(), mode="eval").body
    except SyntaxError:
        raise ConfigurationError(f"cannot read {expression!r}") from None
    if _kind(tree) is not bool:
        raise ConfigurationError(f"expected a condition, got {expression!r}")
    return tree


def _tokens(expression: str) -> list[str]:
    tokens, position = [], 0
    while position < len(expression.rstrip()):
        match = _TOKEN.match(expression, position)
        if not match:
            raise ConfigurationError(f"cannot read {expression[position:].strip()[:20]!r}")
        tokens.append(match["word"] or match["other"])
        position = match.end()
    return tokens


def _check_negations(tokens: list[str]) -> None:
    """Refuse a negation without parentheses: expr-lang negates the next operand, Python the comparison."""
    for number, word in enumerate(tokens):
        if word not in ("!", "not") or tokens[number + 1 : number + 2] == ["in"]:
            continue
        end = _end_of_group(tokens, number + 1)
        if end is None or (end < len(tokens) and tokens[end] not in (*_JOINS, ")")):
            raise ConfigurationError("write !(…) around what is negated")


def _end_of_group(tokens: list[str], start: int) -> int | None:
    depth = 0
    for number in range(start, len(tokens)):
        depth += {"(": 1, ")": -1}.get(tokens[number], 0)
        if depth == 0:
            return number + 1 if number > start else None
    return None


def _kind(node: ast.expr) -> type:
    """Return the type of an expression: bool, int, str or list.

    Raises:
        ConfigurationError: it is not within the subset.
    """
    match node:
        case ast.BoolOp(values=parts) if all(_kind(part) is bool for part in parts):
            return bool
        case ast.UnaryOp(op=ast.Not(), operand=part) if _kind(part) is bool:
            return bool
        case ast.Compare(left=left, ops=[ast.In() | ast.NotIn()], comparators=[ast.List(elts=items)]):
            if all(_kind(item) is _kind(left) for item in items):
                return bool
        case ast.Compare(left=left, ops=[_], comparators=[right]) if _kind(left) is _kind(right):
            return bool
        case ast.Constant(value=bool() | int() | str() as value):
            return type(value)
        case ast.Call(func=ast.Name(id="asInt"), args=[ast.Attribute() as part], keywords=[]):
            if ast.unparse(part) == "lastRetry.exitCode":
                return int
        case ast.Attribute() if ast.unparse(node) in ("lastRetry.exitCode", "lastRetry.status"):
            return str
    raise ConfigurationError(
        f"cannot read {ast.unparse(node)!r}; expected comparisons such as asInt(lastRetry.exitCode) in [84, 85] "
        'or lastRetry.status == "Error", joined by &&, || and !(…)'
    )


def _value(node: ast.expr, names: Mapping[str, str]) -> Any:
    match node:
        case ast.BoolOp(op=op, values=parts):
            return (all if isinstance(op, ast.And) else any)(_value(part, names) for part in parts)
        case ast.UnaryOp(operand=part):
            return not _value(part, names)
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _COMPARED[type(op)](_value(left, names), _value(right, names))
        case ast.List(elts=items):
            return [_value(item, names) for item in items]
        case ast.Constant(value=value):
            return value
        case ast.Call(args=[part]):
            return int(_value(part, names))
        case _:
            return names[ast.unparse(node)]
