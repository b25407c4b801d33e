"""Sections of analyses other than `levels`: results, verdicts, blocks of the page."""

from __future__ import annotations

from markupsafe import Markup

from mm1.manifests import StudyPlan, load
from mm1.store.open import open_store
from mm1.studies import analyses
from mm1.studies.cells import read_cells, study_data
from mm1.studies.config import Claim
from mm1.studies.page import render_results
from mm1.studies.results import Results, compute
from mm1.studies.section import Block, Section
from mm1.studies.verdict import Verdict
from tests.support.trained_cells import publish_studies, two_levels


def fitted(data):
    claim = Claim(says="The fit predicts <B>.", score="few-shot", better="B", than="A", effect=0.1)
    verdict = Verdict(claim=claim, outcome="shown", effect=0.3, stderr=0.1, p_value=0.004, p_study=0.004)
    block = Block(
        title="Fit", text="y = a x^b", columns=("size", "rate"), rows=(("9M", "<6e-4>"),), figure=Markup("<svg></svg>")
    )
    return Section(results={"exponent": -0.42, "cells": len(data.cells)}, verdicts=(verdict,), blocks=(block,))


def test_an_analysis_adds_results_verdicts_and_a_block_of_the_page(tmp_path, monkeypatch):
    monkeypatch.setitem(analyses.ANALYSES, "learning_rate", fitted)
    content = two_levels(analysis="learning_rate")
    published = publish_studies(open_store(str(tmp_path)), {"rates": content}, lambda level, seed, term: 0.5)
    plan = load(published.plan, StudyPlan)
    studies = study_data(plan, "0" * 64, read_cells(plan, published.trained, published.reports))
    computed = compute(studies, "0" * 64, {}, len(plan.cells), {})
    (study,) = computed.results.studies
    assert study.section == {"exponent": -0.42, "cells": 6}
    assert [verdict.outcome for verdict in study.verdicts] == ["not shown", "shown"]
    assert study.verdicts[1].p_run == 0.008
    page = render_results(computed.results, computed.sections, lambda digest: None, {})
    assert "y = a x^b" in page
    assert "&lt;6e-4&gt;" in page
    assert "The fit predicts &lt;B&gt;." in page
    assert Results.model_validate_json(computed.results.json_text()) == computed.results


def test_a_page_of_studies_without_a_trained_cell_names_them(tmp_path):
    content = two_levels(claims=[], seeds=[0])
    names = ["letters-A-0", "letters-B-0"]
    published = publish_studies(open_store(str(tmp_path)), {"letters": content}, lambda *_: 0.5, failed=names)
    plan = load(published.plan, StudyPlan)
    studies = study_data(plan, "0" * 64, read_cells(plan, published.trained, published.reports))
    computed = compute(studies, "0" * 64, {}, 2, dict.fromkeys(names, "out of memory"))
    page = render_results(computed.results, computed.sections, lambda digest: None, {})
    assert "letters-A-0: out of memory" in page
    assert "no claims" in page
