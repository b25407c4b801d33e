"""The rights of the chart's accounts, read from its Roles: those of the table and no others."""

from __future__ import annotations

import re

import pytest

from tests.support.rights import NEVER, RIGHTS, TEMPLATES, VERBS, Right, chart_accounts, chart_rights, is_allowed, rights

CHART = chart_rights()
RESOURCES = sorted({right[:2] for granted in RIGHTS.values() for right in granted} | {right[:2] for right in NEVER})


def test_every_account_is_in_the_table():
    assert chart_accounts() | {"mm1-submitter"} == set(RIGHTS)


@pytest.mark.parametrize("account", RIGHTS)
def test_an_account_has_the_rights_of_the_table_and_no_others(account):
    assert CHART.get(account, set()) == RIGHTS[account]


@pytest.mark.parametrize("account", RIGHTS)
def test_no_account_reads_secrets_enters_pods_or_changes_rights(account):
    assert [right for right in NEVER if is_allowed(CHART.get(account, set()), right)] == []


def test_a_right_on_one_object_is_none_on_others():
    granted = rights("apps", "deployments", "patch", "mm1-serve") | rights("apps", "deployments", "get")
    assert is_allowed(granted, Right("apps", "deployments", "patch", "mm1-serve"))
    assert not is_allowed(granted, Right("apps", "deployments", "patch", "other"))
    assert not is_allowed(granted, Right("apps", "deployments", "patch"))
    assert is_allowed(granted, Right("apps", "deployments", "get", "any"))


def test_each_role_is_bound_to_the_account_of_its_name():
    text = (TEMPLATES / "roles.yaml").read_text()
    bound = dict(re.findall(r'include "mm1\.bound" \(list \$ "(\w+)" \.(\w+)\.name\)', text))
    assert set(bound) == {"step", "supervisor", "rollout", "executor"} and all(role == name for role, name in bound.items())


def test_verbs_and_resources_are_spelled_as_kubernetes_spells_them():
    for account, granted in CHART.items():
        for right in granted:
            assert right.verb in VERBS and re.fullmatch(r"[a-z]+(/[a-z]+)?", right.resource), (account, right)
