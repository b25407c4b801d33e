"""A message about a run to a webhook: one JSON object, whose ``text`` Slack and compatible services show.

The address of the webhook is a credential. It is in no log, message or record; errors name their class only.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from mm1.errors import Mm1Error
from mm1.lineage.gates import decisions
from mm1.lineage.records import RunRecords, read_run
from mm1.store.base import Store

log = logging.getLogger("mm1")

URL_VARIABLE = "MM1_NOTIFY_URL"
"""Environment variable with the address of the webhook, a credential; empty = no message."""
LINK_VARIABLE = "MM1_NOTIFY_LINK"
"""Environment variable from the same Secret with the address of a run in a UI, in which ``{run}`` is replaced by its name."""
REQUEST_S, TOTAL_S = 10.0, 20.0
"""Time limits of a phase of the request, and of the whole, in seconds."""
MAX_LINE = 500
"""Characters of a decision or failure in the text."""


def message(store: Store, run: str, *, status: str, report: str, link: str = "") -> dict[str, Any]:
    """Build the message about a run.

    Args:
        store: store with its records.
        run: its name.
        status: its status according to the engine; may be empty.
        report: address of its report page in the store.
        link: address of a run in a UI, with ``{run}``; may be empty.

    Returns:
        text; run, status; decision and reason of a retraining; promoted (None if nothing was to be promoted); failures by task;
        report and link.
    """
    try:
        records = read_run(store, run)
    except Mm1Error as error:
        log.warning("the message about the run has no details: %s", error)
        records = RunRecords(run, {})
    outputs = {task: record.outputs for task, record in records.own.items()}
    failures = {task: f"{e.outcome.label}: {e.message}" for task, record in records.own.items() if (e := record.ending)}
    decided = next((values for values in outputs.values() if values.get("decision") in ("retrain", "wait")), {})
    promoted = next((values["promoted"] for values in outputs.values() if "promoted" in values), None)
    status = status or records.state
    link = link.replace("{run}", run) if link else ""
    lines = [f"{run}: {status}", *decisions(store, outputs), *(f"{task}: {why}" for task, why in failures.items())]
    return {
        "text": "\n".join([*map(_cut, lines), link or report]),
        "run": run,
        "status": status,
        "decision": decided.get("decision", ""),
        "reason": decided.get("reason", ""),
        "promoted": promoted,
        "failures": failures,
        "report": report,
        "link": link,
    }


def post(url: str, content: dict[str, Any]) -> bool:
    """Post a message within a limited time; a failure is logged as a warning.

    Args:
        url: address of the webhook.
        content: the message.

    Returns:
        Whether the webhook accepted it.
    """
    results: list[str] = []
    thread = threading.Thread(target=lambda: results.append(_post(url, content)), daemon=True, name="mm1-notification")
    thread.start()
    thread.join(TOTAL_S)  # a server that answers byte by byte keeps within the limits of each phase
    problem = results[0] if results else f"no answer within {TOTAL_S:g} s"
    if problem:
        log.warning("the notification was not delivered: %s", problem)
    return not problem


def _post(url: str, content: dict[str, Any]) -> str:
    """Post a message; returns what went wrong, without the address."""
    import urllib3

    logging.getLogger("urllib3").setLevel(logging.WARNING)  # it logs the path of each request
    try:
        with urllib3.PoolManager(timeout=REQUEST_S, retries=False) as pool:
            status = pool.request("POST", url, json=content, preload_content=False).status
    except Exception as error:  # noqa: BLE001 - whatever a webhook or a malformed address leads to; its text may have the address
        return type(error).__name__
    return "" if 200 <= status < 300 else f"HTTP status {status}"


def _cut(line: str) -> str:
    return line if len(line) <= MAX_LINE else f"{line[: MAX_LINE - 1]}…"
