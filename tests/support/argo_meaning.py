"""Small workflows and what Argo makes of them: run locally by one test, on a real Argo by another, with one table of results.

A case is a DAG of shell commands. Its expectation is the end of each task, the number of its attempts, and its outputs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mm1_workflows.argo.document import Document

OUT = "/tmp/out"
DONE, SKIPPED, FAILED, OMITTED = "done", "skipped", "failed", "omitted"
CODE = "asInt(lastRetry.exitCode)"


@dataclass
class Case:
    """A workflow, and what it does."""

    document: Document
    ends: dict[str, str]
    """Task -> end."""
    attempts: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)


def workflow(name: str, templates: list[dict[str, Any]], tasks: list[dict[str, Any]], **spec: Any) -> Document:
    """A workflow of containers without failFast, so that each task has an end of its own."""
    dag = {"name": "main", "dag": {"failFast": False, "tasks": tasks}}
    meta = {"generateName": f"{name}-"}
    body = {"entrypoint": "main", "templates": [dag, *templates], **spec}
    return {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": meta, "spec": body}


def shell(name: str, script: str, *arguments: str, outputs: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    """A container template that runs a script of the shell; its output ``out`` is the file OUT-out."""
    env = fields.pop("env", [])
    container = {"image": "IMAGE", "command": ["sh", "-c"], "args": [script, name, *arguments], "env": env}
    given = [{"name": output, "valueFrom": {"path": f"{OUT}-{output}"}} for output in outputs]
    return {"name": name, "container": container, "outputs": {"parameters": given}} | fields


def conditions() -> Case:
    """A value that one task writes, compared in each way."""
    rows = [
        ("pass", "{0} == pass", DONE),
        ("pass", "{0} != pass", SKIPPED),
        ("pass\n", "{0} == pass", DONE),
        ("pass\n", "'{0}' == 'pass'", DONE),
        ("pass\n\n", "'{0}' == 'pass'", SKIPPED),
        (" pass", "{0} == pass", DONE),
        (" pass", "'{0}' == 'pass'", SKIPPED),
        ("needs-work", "'{0}' == 'needs-work'", DONE),
        ("needs-work", '"{0}" != "needs-work"', SKIPPED),
        ("needs-work", "{0} == pass", FAILED),
        ("needs work", "{0} == pass", FAILED),
        ("needs work", "'{0}' == 'needs work'", DONE),
        ("", "'{0}' == ''", DONE),
        ("", "{0} == pass", FAILED),
        ("1", "'{0}' == '1'", DONE),
        ("1.0", "'{0}' == '1'", SKIPPED),
        ("1", "{0} != pass", DONE),
        ("true", "{0} == true", DONE),
        ("True", "{0} == true", SKIPPED),
        ("it's", "'{0}' == 'pass'", FAILED),
        ("a\\b", "'{0}' == 'ab'", DONE),
        ("\u00e9t\u00e9", "{0} == \u00e9t\u00e9", DONE),
    ]
    script = "".join(f'printf %s "${{{number + 1}}}" > {OUT}-o{number}\n' for number in range(len(rows)))
    say = shell("say", script, *(value for value, _, _ in rows), outputs=tuple(f"o{number}" for number in range(len(rows))))
    tasks: list[dict[str, Any]] = [{"name": "say", "template": "say"}]
    for number, (_, when, _) in enumerate(rows):
        reference = f"{{{{tasks.say.outputs.parameters.o{number}}}}}"
        tasks.append({"name": f"c{number}", "template": "nothing", "depends": "say", "when": when.format(reference)})
    ends = {"say": DONE} | {f"c{number}": end for number, (_, _, end) in enumerate(rows)}
    return Case(workflow("conditions", [say, shell("nothing", "true")], tasks), ends)


def retries() -> Case:
    """A task that fails, with each strategy."""
    rows: list[tuple[str, dict[str, Any], int]] = [
        ("exit 1", {"limit": 1}, 2),
        ("exit 1", {"limit": "1", "retryPolicy": "OnFailure"}, 2),
        ("exit 1", {"limit": 0}, 1),
        ("exit 1", {"limit": 1, "retryPolicy": "OnError"}, 1),
        ("exit 84", {"limit": 1, "expression": f"{CODE} in [84, 85]"}, 2),
        ("exit 82", {"limit": 1, "expression": f"{CODE} in [84, 85]"}, 1),
        ("exit 82", {"limit": 1, "expression": f"!({CODE} in [82, 83])"}, 1),
        ("exit 1", {"limit": 1, "expression": f"{CODE} not in [82, 83]"}, 2),
        ("exit 84", {"limit": 1, "retryPolicy": "OnError", "expression": f"{CODE} == 84"}, 1),
        ("exit 3", {"limit": 1, "expression": f"{CODE} > 2 && {CODE} < 4"}, 2),
        ("exit 3", {"limit": 1, "expression": "lastRetry.exitCode == '3' && lastRetry.status == 'Failed'"}, 2),
        ("kill -9 $$$$", {"limit": 1, "expression": f"{CODE} == 137"}, 2),
        ("exit 1", {"limit": 3, "backoff": {"duration": "1s", "factor": 2, "cap": "1s", "maxDuration": "1ms"}}, 1),
    ]
    templates = [shell(f"r{number}", script, retryStrategy=retry) for number, (script, retry, _) in enumerate(rows)]
    tasks = [{"name": f"r{number}", "template": f"r{number}"} for number in range(len(rows))]
    after = {"name": "after", "template": "nothing", "depends": "r0"}
    case = Case(
        workflow("retries", [*templates, shell("nothing", "true")], [*tasks, after]),
        {f"r{n}": FAILED for n in range(len(rows))},
    )
    case.ends["after"] = OMITTED
    case.attempts = {f"r{number}": attempts for number, (_, _, attempts) in enumerate(rows)}
    return case


def references() -> Case:
    """References in env, arguments and loops; outputs without their last newline, and in a loop."""
    env = [
        {"name": "WHO", "value": "{{inputs.parameters.who}}"},
        {"name": "GREETING", "value": "{{workflow.parameters.word}}!"},
    ]
    greet = shell("greet", f'printf "%s %s" "$GREETING" "$WHO" > {OUT}-said', outputs=("said",), env=env)
    price = [{"name": "ONE", "value": "1"}, {"name": "TWO", "value": "$(ONE)2 $(NONE) $$(ONE)"}]
    cost = shell("cost", f'printf "%s|%s" "$TWO" "$1" > {OUT}-said', "$(TWO) $$ $(OTHER) $a", outputs=("said",), env=price)
    greet["inputs"] = {"parameters": [{"name": "who", "value": "nobody"}]}
    lines = shell("lines", f"printf 'a\\n' > {OUT}-one; printf 'a\\n\\n' > {OUT}-two", outputs=("one", "two"))
    items = '["x y", "it\'s", "\u00e9 & <b>"]'
    tasks = [
        {"name": "default", "template": "greet"},
        {"name": "given", "template": "greet",
         "arguments": {"parameters": [{"name": "who", "value": "you {{workflow.parameters.word}}"}]}},
        {"name": "cost", "template": "cost"},
        {"name": "lines", "template": "lines"},
        {"name": "then", "template": "greet", "depends": "lines",
         "arguments": {"parameters": [{"name": "who", "value": "<{{tasks.lines.outputs.parameters.two}}>"}]}},
        {"name": "each", "template": "greet", "withParam": "{{workflow.parameters.items}}",
         "arguments": {"parameters": [{"name": "who", "value": "{{item}}"}]}},
        {"name": "none", "template": "greet", "withParam": "[]",
         "arguments": {"parameters": [{"name": "who", "value": "{{item}}"}]}},
        {"name": "after", "template": "greet", "depends": "each && none",
         "arguments": {"parameters": [{"name": "who", "value": "{{tasks.each.outputs.parameters.said}}"}]}},
    ]  # fmt: skip
    arguments = {"parameters": [{"name": "word", "value": "hello"}, {"name": "items", "value": items}]}
    said = {
        "default": {"said": "hello! nobody"},
        "given": {"said": "hello! you hello"},
        "cost": {"said": "12 $(NONE) $(ONE)|12 $(NONE) $(ONE) $ $(OTHER) $a"},
        "lines": {"one": "a", "two": "a\n"},
        "then": {"said": "hello! <a\n>"},
        "after": {"said": 'hello! ["hello! x y","hello! it\'s","hello! \u00e9 \\u0026 \\u003cb\\u003e"]'},
    }
    case = Case(
        workflow("references", [greet, cost, lines], tasks, arguments=arguments), dict.fromkeys(said, DONE), outputs=said
    )
    return case


CASES = {"conditions": conditions, "retries": retries, "references": references}
