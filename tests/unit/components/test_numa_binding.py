"""Ranks are bound to the NUMA nodes of their GPUs where torchrun could do it, and never where it would end the run."""

import pytest

from mm1_components.ranks.torchrun import numa_options

BOUND, FREE = ("--numa-binding", "node"), ()


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Make a machine: what it tells of its nodes, and a `numactl` on the path or none."""

    def make(*lists, numactl=True):
        for number, text in enumerate(lists):
            (tmp_path / f"node{number}").mkdir()
            (tmp_path / f"node{number}" / "cpulist").write_text(text + "\n")
        program = tmp_path / "bin" / "numactl"
        program.parent.mkdir()
        if numactl:
            program.write_text("#!/bin/sh\n")
            program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent))
        return tmp_path

    return make


def test_two_nodes_with_cores_of_ours_are_bound(machine):
    nodes = machine("0-3,8-11", "4-7,12-15")
    assert numa_options(set(range(16)), nodes) == BOUND
    assert numa_options({3, 15}, nodes) == BOUND


def test_one_node_is_left_alone(machine):
    assert numa_options(set(range(16)), machine("0-15")) == FREE


def test_a_node_of_memory_alone_does_not_count(machine):
    assert numa_options(set(range(16)), machine("0-15", "")) == FREE


def test_a_container_that_lacks_the_cores_of_a_node_is_left_alone(machine):
    nodes = machine("0-3,8-11", "4-7,12-15")
    assert numa_options({0, 1, 8, 11}, nodes) == FREE
    assert numa_options({4, 12}, nodes) == FREE


def test_without_numactl_torchrun_would_end_the_run(machine):
    assert numa_options(set(range(8)), machine("0-3", "4-7", numactl=False)) == FREE


def test_a_system_that_does_not_tell_is_left_alone(tmp_path):
    assert numa_options({0, 1}, tmp_path / "nothing") == FREE
