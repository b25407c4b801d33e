"""Comparison of a verification card with the card of the same run, made now."""

from __future__ import annotations

from typing import Any, NamedTuple

from mm1.lineage.card import Card, ResumeProof


class Finding(NamedTuple):
    """A field of the card, now, and whether that is right."""

    field: str
    card: str
    now: str
    verdict: str
    """ok, a remark, or what is wrong."""
    fine: bool = True


def compare_cards(card: Card, now: Card, tolerance: float) -> list[Finding]:
    """Compare two cards of the same run.

    With the same code, versions, hardware and number of ranks, the manifests must be equal, bit by bit. Otherwise each loss
    must be within a tolerance.

    Args:
        card: the card to verify.
        now: the card of the run that was made to verify it.
        tolerance: largest relative difference of a loss.
    """
    circumstances = [
        _remark("commit", card.code.commit, now.code.commit),
        _remark("code", card.code.digest[:12], now.code.digest[:12]),
        *(_remark(name, getattr(card.hardware, name), getattr(now.hardware, name)) for name in DECISIVE),
        *(_remark(name, card.versions.get(name, ""), now.versions.get(name, "")) for name in {**card.versions, **now.versions}),
    ]
    exact = all(finding.card == finding.now for finding in circumstances[1:])
    results, again = card.results, now.results
    findings = [
        *circumstances,
        _equal("recipe", card.recipe, now.recipe, "another recipe"),
        _equal("stage", card.stage, now.stage, "another stage"),
        _configuration(card, now),
        _equal("steps", results.steps, again.steps, "another number of steps"),
        _equal("tokens", results.tokens, again.tokens, "other batches"),
        _manifest(results.manifest[:12], again.manifest[:12], exact),
    ]
    for title, before, after in (
        ("loss", results.losses, again.losses),
        ("validation loss", results.validation_losses, again.validation_losses),
    ):
        for name in {**before, **after}:
            findings.append(_loss(f"{title} {name}", before.get(name), after.get(name), 0.0 if exact else tolerance))
    return [*findings, _remark("tokens/s", f"{card.speed.tokens_per_s:,.0f}", f"{now.speed.tokens_per_s:,.0f}", "")]


DECISIVE = ("processor", "gpu", "processes", "threads")
"""Fields of the hardware on which the bits of a result depend."""


def check_proof(card: Card, proof: ResumeProof) -> Finding:
    """Judge the resume proof that was made now."""
    before = "" if card.resume is None else _proof_text(card.resume)
    return Finding("resume", before, _proof_text(proof), "ok" if proof.equal else "not bit-exact", proof.equal)


def _proof_text(proof: ResumeProof) -> str:
    return f"{'equal' if proof.equal else 'different'} after a stop at step {proof.stopped_after}"


def _remark(field: str, card: Any, now: Any, difference: str = "differs") -> Finding:
    return Finding(field, str(card), str(now), "ok" if card == now else difference)


def _equal(field: str, card: Any, now: Any, difference: str) -> Finding:
    return Finding(field, str(card), str(now), "ok" if card == now else difference, card == now)


def _configuration(card: Card, now: Card) -> Finding:
    """Compare the resolved configurations: other code may have other fields, or other values of the recipe."""
    if card.code.digest == now.code.digest:
        return _equal("configuration", card.config[:12], now.config[:12], "another configuration")
    return _remark("configuration", card.config[:12], now.config[:12], "differs, as the code does")


def _manifest(card: str, now: str, exact: bool) -> Finding:
    if card == now:
        return Finding("manifest", card, now, "ok, bit by bit")
    if exact:
        return Finding("manifest", card, now, "not bit-exact", fine=False)
    return Finding("manifest", card, now, "differs, as code, versions or hardware do")


def _loss(field: str, card: float | None, now: float | None, tolerance: float) -> Finding:
    if card is None or now is None:
        return Finding(field, _number(card), _number(now), "missing", fine=False)
    difference = abs(card - now) / max(abs(card), abs(now), 1e-12)
    fine = difference <= tolerance
    verdict = "ok" if card == now else f"{difference:.2%} apart, {'within' if fine else 'above'} {tolerance:.2%}"
    return Finding(field, _number(card), _number(now), verdict, fine)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.5f}"
