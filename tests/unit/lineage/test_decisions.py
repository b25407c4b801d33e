"""What the steps of a run decided, as lines for people."""

from mm1.lineage.gates import decisions, reasons
from mm1.store.local import LocalStore


def test_each_decision_with_a_reason_is_a_line(tmp_path):
    outputs = {
        "ingest": {"manifest": "x"},
        "decide": {"decision": "wait", "reason": "nothing new"},
        "rollout": {"promoted": "true", "reason": "answered 30 questions"},
        "canary": {"promoted": False, "reason": "no answer"},
        "own": {"reason": "because"},
    }
    assert list(reasons(outputs)) == [
        "decide: wait: nothing new",
        "rollout: promoted: answered 30 questions",
        "canary: not promoted: no answer",
        "own: because",
    ]
    assert list(decisions(LocalStore(tmp_path), outputs)) == list(reasons(outputs))
    assert list(reasons({"gate": {"decision": "pass"}})) == []
