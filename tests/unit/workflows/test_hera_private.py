"""What this project relies on in Hera beyond its public interface: read this first when an upgrade of Hera fails."""

from __future__ import annotations

import inspect

from hera.shared import global_config
from hera.workflows import DAG, Container, CronWorkflow, Parameter, Task, Workflow, WorkflowTemplate
from hera.workflows.models import Arguments

from mm1_workflows.authoring import hera_private, hooks


def test_the_context_knows_the_workflow_of_the_current_block() -> None:
    assert hera_private.current_workflow() is None
    with Workflow(name="w", entrypoint="main") as w:
        assert hera_private.current_workflow() is w
        with DAG(name="main"):
            assert hera_private.current_workflow() is w
    assert hera_private.current_workflow() is None


def test_arguments_have_one_form_however_they_are_given() -> None:
    for arguments in (
        {"word": "a"},
        [{"word": "a"}],
        Parameter(name="word", value="a"),
        [Parameter(name="word", value="a")],
        Arguments.model_validate({"parameters": [{"name": "word", "value": "a"}]}),
    ):
        for node in (Workflow(name="w", arguments=arguments), Task(name="t", template="x", arguments=arguments)):
            parameters = hera_private.arguments_of(node).parameters
            assert parameters and [(item.name, item.value) for item in parameters] == [("word", "a")]
    assert hera_private.arguments_of(Workflow(name="w")) == Arguments()


def test_the_command_generate_is_a_cappa_command() -> None:
    generate = hera_private.generate_command()
    assert generate is not None and "subcommand" in generate.__annotations__


def test_hooks_are_registered_for_the_classes_that_are_built() -> None:
    """Hera finds a hook by its return annotation, and calls it for objects of exactly that class."""
    for cls, hook in {Container: hooks.fill_container, DAG: hooks.fill_dag, Workflow: hooks.fill_workflow}.items():
        assert inspect.signature(hook).return_annotation is cls
        assert hook in global_config._get_pre_build_hooks(cls(name="x"))
    for workflow in (WorkflowTemplate(name="w"), CronWorkflow(name="w", schedules=["* * * * *"])):
        assert workflow.to_dict()["metadata"]["labels"] == hooks.LABELS
