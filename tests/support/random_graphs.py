"""Random workflows inside the subset that all engines understand, of toy steps: one generator for every engine's tests.

A plan is drawn first (tasks, edges, what is read, conditions, loops, pods), then built with Hera, in any order of declaration.
Whatever the plan says is legal by construction: what follows a conditional task carries its condition, conditions read plain
outputs of unconditional tasks, loops run over lists. Edges that follow from references are written with `>>` or left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hera.workflows import DAG, Container, Parameter, RetryStrategy, Workflow
from hera.workflows.models import Backoff, ResourceRequirements, Toleration
from hypothesis import strategies as st

from mm1_workflows.argo.document import Document
from mm1_workflows.argo.retries import RETRY_EXPRESSION
from tests.support.toy_workflows import toy

WORDS = st.text("abc xyz=.,", max_size=6)
NAMES = '["red", "green", "blue"]'
"""Default of the parameter ``names``, which loops run over."""


@dataclass(frozen=True)
class TaskPlan:
    """One task."""

    name: str
    before: tuple[str, ...] = ()
    say: tuple[str, ...] = ()
    """Pieces of the argument ``say``: words and references."""
    then: str = ""
    when: str | None = None
    loop: str | None = None
    """``items``, ``parameter``, or the task whose output ``items`` is looped over."""

    def refers_to(self, other: str) -> bool:
        """Whether the task refers to an output of another."""
        return self.loop == other or any(f"{{{{tasks.{other}." in text for text in (*self.say, self.then, self.when or ""))


@dataclass(frozen=True)
class PodPlan:
    """What differs between the pods of two workflows."""

    retries: int = 0
    gpus: int = 0
    selector: str = ""
    timeout_s: int = 60
    secret: str = ""


@dataclass(frozen=True)
class WorkflowPlan:
    """A workflow."""

    tasks: tuple[TaskPlan, ...]
    """In an order in which they can run."""
    declared: tuple[int, ...]
    """The order in which the file declares them."""
    pod: PodPlan
    exit_task: bool
    all_edges: bool
    """Whether `>>` also repeats the edges that references imply."""


@st.composite
def plans(draw: st.DrawFn, max_tasks: int = 7) -> WorkflowPlan:
    """A random legal workflow."""
    tasks: list[TaskPlan] = []
    for number in range(draw(st.integers(1, max_tasks))):
        tasks.append(draw(_tasks(f"t{number}", tuple(tasks))))
    pod = draw(
        st.builds(
            PodPlan,
            retries=st.integers(0, 3),
            gpus=st.integers(0, 2),
            selector=st.sampled_from(["", "a100", "l4"]),
            timeout_s=st.integers(1, 9_000),
            secret=st.sampled_from(["", "store", "other"]),
        )
    )
    return WorkflowPlan(
        tuple(tasks), tuple(draw(st.permutations(range(len(tasks))))), pod, draw(st.booleans()), draw(st.booleans())
    )


@st.composite
def _tasks(draw: st.DrawFn, name: str, earlier: tuple[TaskPlan, ...]) -> TaskPlan:
    before = [task for task in earlier if draw(st.booleans())]
    conditions = [task.when for task in before if task.when]
    when = conditions[0] if conditions else None
    before = [task for task in before if task.when in (None, when)]
    plain = [task for task in before if task.loop is None and task.when is None]
    if when is None and plain and draw(st.integers(0, 2)) == 0:
        source = draw(st.sampled_from(plain))
        literal = draw(st.sampled_from(["pass", "fail-2", "x.y"]))
        when = f"'{{{{tasks.{source.name}.outputs.parameters.text}}}}' {draw(st.sampled_from(['==', '!=']))} '{literal}'"
    elif when is not None:  # the same condition reads the same task, which is then also before
        before += [task for task in earlier if f"tasks.{task.name}." in when and task not in before]
    lists = [task.name for task in before if task.loop is None]
    loop = draw(st.sampled_from([None, None, "items", "parameter", *lists]))
    pieces = [st.just(f"{{{{tasks.{task.name}.outputs.parameters.text}}}}") for task in before]
    pieces += [WORDS, st.sampled_from(["{{workflow.parameters.word}}", "{{workflow.name}}"])]
    if loop is not None:
        pieces.append(st.just("{{item}}"))
    return TaskPlan(
        name,
        tuple(task.name for task in before),
        tuple(draw(st.lists(st.one_of(pieces), max_size=3))),
        draw(st.sampled_from(["", "{{workflow.parameters.word}}", *(["{{item}}"] if loop else [])])),
        when,
        loop,
    )


def build(plan: WorkflowPlan) -> Document:
    """The workflow as plain data."""
    arguments = [
        Parameter(name="word", value="hello"),
        Parameter(name="names", value=NAMES),
        Parameter(name="count", value="4"),
        Parameter(name="must-be-given"),
    ]
    on_exit = "at-exit" if plan.exit_task else None
    with Workflow(generate_name="random-", entrypoint="main", on_exit=on_exit, arguments=arguments) as workflow:
        with DAG(name="main"):
            made = {plan.tasks[number].name: _make(plan.tasks[number]) for number in plan.declared}
            for task in plan.tasks:
                for other in task.before:
                    if plan.all_edges or not task.refers_to(other):
                        made[other] >> made[task.name]
        if plan.exit_task:
            with DAG(name="at-exit"):
                toy("finish", say="{{workflow.status}}", then="{{workflow.name}} ended")
    for template in workflow.templates:
        if isinstance(template, Container):
            _pod(template, plan.pod)
    document: Document = workflow.to_dict()
    return document


def _make(task: TaskPlan) -> Any:
    loops: dict[str | None, Callable[[], dict[str, Any]]] = {
        None: dict,
        "items": lambda: {"with_items": ["left", "right"]},
        "parameter": lambda: {"with_param": "{{workflow.parameters.names}}"},
    }
    loop = loops.get(task.loop, lambda: {"with_param": f"{{{{tasks.{task.loop}.outputs.parameters.items}}}}"})()
    return toy(task.name, say="".join(task.say), then=task.then, when=task.when, count="{{workflow.parameters.count}}", **loop)


def _pod(template: Container, pod: PodPlan) -> None:
    template.retry_strategy = RetryStrategy(
        limit=pod.retries, expression=RETRY_EXPRESSION, backoff=Backoff(duration="3s", factor=2, cap="1m")
    )
    template.active_deadline_seconds = pod.timeout_s
    amounts = {"cpu": "500m", "memory": "1Gi"} | ({"nvidia.com/gpu": str(pod.gpus)} if pod.gpus else {})
    template.resources = ResourceRequirements.model_validate({"requests": amounts, "limits": amounts})
    if pod.selector:
        template.node_selector = {"gpu": pod.selector}
        template.tolerations = [Toleration(key="gpu", operator="Equal", value=pod.selector, effect="NoSchedule")]
    if pod.secret:
        from hera.workflows.env_from import SecretEnvFrom

        template.env_from = [SecretEnvFrom(name=pod.secret, optional=True)]
