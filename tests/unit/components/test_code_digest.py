"""The code digest covers what a step runs, and nothing else."""

from mm1_components.wrapper.cache import import_closure


def test_closure_follows_imports_through_this_project():
    closure = import_closure("mm1_components.wrapper.execute")
    assert {"mm1_components.wrapper.execute", "mm1.manifests", "mm1.store.base", "mm1.errors"} <= set(closure)
    assert all(path.is_file() for path in closure.values())


def test_closure_follows_imports_inside_functions():
    assert {"mm1.store.s3"} <= set(import_closure("mm1.store.open"))


def test_what_is_not_imported_is_not_in_it():
    assert "mm1_components.wrapper.execute" not in import_closure("mm1.manifests")
    assert import_closure("json") == {}
