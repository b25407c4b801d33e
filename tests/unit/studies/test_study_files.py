"""Reading studies: names, files, texts; errors with file, line, field and remedy; merging of settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm1.errors import ConfigurationError
from mm1.studies import files
from mm1.studies.files import merged, read_base, read_studies, slug

TEXT = """\
title: Size of images
paper: {section: "3.1", says: Larger is better.}
factor: pixels
levels:
  16: {mix.image_size: 16}
  "32": {mix.image_size: 32, mix.one_source: false}
scores:
  questions:
    mean: [vqa/0/accuracy]
claims:
  - {says: More is better., score: questions, better: "32", than: "16", effect: 0.05}
"""


def test_the_text_of_a_study_is_a_study() -> None:
    studies = read_studies(TEXT)
    assert list(studies) == ["Size-of-images"]
    study = studies["Size-of-images"]
    assert study.levels == {"16": {"mix.image_size": "16"}, "32": {"mix.image_size": "32", "mix.one_source": "false"}}
    assert study.claims[0].effect == 0.05


def test_values_are_what_was_written() -> None:
    text = TEXT.replace('"32"', "50:50").replace('than: "16"', "than: 16").replace("one_source: false", "as_of: 2026-01-01")
    (study,) = read_studies(text).values()
    assert study.levels["50:50"] == {"mix.image_size": "32", "mix.as_of": "2026-01-01"}
    assert (study.claims[0].better, study.claims[0].than) == ("50:50", "16")


def test_nested_references_do_not_take_all_memory() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(ConfigurationError, match="study: expected at most 20,000 values"):
        read_studies("\n".join(lines) + "\n")
    with pytest.raises(ConfigurationError, match="study: invalid YAML: its lists and maps are nested too deeply"):
        read_studies("a:\n  " + "[" * 700)


@pytest.mark.parametrize("name", files.names())
def test_the_studies_of_this_project_can_be_read_with_their_bases(name: str) -> None:
    (study,) = read_studies(name).values()
    assert read_base(study.base) and study.claims is not None


def test_files_and_names_go_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    assert list(read_studies("mine.yaml caption_interleaved")) == ["mine", "caption_interleaved"]
    (tmp_path / "my own.yaml").write_text(TEXT)
    assert list(read_studies("my own.yaml")) == ["my own"]
    with pytest.raises(ConfigurationError, match="'mine' is given twice"):
        read_studies(f"mine.yaml {tmp_path / 'mine.yaml'}")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("factor: pixels", "factr: pixels", r"study, line 3: factr: unknown field; did you mean 'factor'"),
        (
            "mix.image_size: 16",
            "mixx.image_size: 16",
            r"study, line 5: levels.16.mixx.image_size: unknown stage 'mixx'; did you",
        ),
        ("effect: 0.05", "effect: 0", r"study, line 11: claims.0.effect: expected more than 0.0, got '0'"),
        ('than: "16"', 'than: "8"', r"study, line 11: claims.0.than: unknown name '8'; known: 16, 32"),
        ("mean: [vqa/0/accuracy]", "mean: [vqa/zero]", r"study, line 9: scores.questions.mean: expected task/shots/metric"),
        ("title: Size of images", "title: [", r"study, line 3: invalid YAML"),
        ("factor: pixels", "factor:", r"study, line 3: factor: expected text, got None"),
        ("factor: pixels", "factor: !!binary x", r"study, line 3: invalid YAML: could not determine a constructor"),
        ("factor: pixels", "factor: \x01", r"study, line 3: invalid YAML: the character '.x01' is not allowed"),
        ("factor: pixels", "factor: &a [*a]", r"study: expected at most 20,000 values; are there nested references"),
        ("factor: pixels", "~: 1", r"study, line 3: expected the name of a field before ':', got '~'"),
        ("factor: pixels", "[a]: 1", r"study, line 3: expected the name of a field before ':', got "),
        (
            "factor: pixels",
            "seeds: [0, 0]\nfactor: x",
            r"study, line 3: seeds: expected different integers from 0 on, got 0, 0",
        ),
        ("factor: pixels", "seeds: [-1]\nfactor: x", r"study, line 3: seeds: expected different integers from 0 on, got -1"),
        ("  16: {", f"  {'1' * 81}: {{", r"study, line 4: levels: expected names of 1 to 80 characters on one line, got '111"),
        ("[vqa/0/accuracy]", "[vqa/0/accuracy, loss/text]", r"line 8: scores.questions: a loss and a score of a task have no"),
        ("[vqa/0/accuracy]", "[vqa@4/0/accuracy]", r"line 9: scores.questions.mean: expected task/shots/metric"),
        ("factor: pixels", "factor: pixels\nfactor: size", r"study, line 4: 'factor' is given twice; remove one"),
    ],
)
def test_errors_name_line_field_and_remedy(old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_studies(TEXT.replace(old, new))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("caption_interleavd", r"no study 'caption_interleavd'; did you mean 'caption_interleaved'\?; or give a YAML file"),
        ("", "studies: expected names or files, got none; known: "),
        ("nowhere/my.yaml", "study nowhere/my.yaml: no such file in .*; on a cluster, give the text of the file"),
        ("a\nb", "study: expected a map"),
    ],
)
def test_what_is_no_study_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_studies(text)


def test_later_settings_win_and_overrides_are_joined() -> None:
    base = {"data.text": "world:0", "mix.weights": "mm1", "pretrain.overrides": "train.steps=300", "sft.recipe": "mm1_tiny_sft"}
    level = {"mix.weights": "captions=1", "pretrain.overrides": "optim.lr=0.1", "sft": "omit"}
    assert merged(base, level) == {
        "data": {"text": "world:0"},
        "mix": {"weights": "captions=1"},
        "pretrain": {"overrides": "train.steps=300 optim.lr=0.1"},
    }
    assert merged({"sft.recipe": "a"}, {"data.text": "x"}) == {"data": {"text": "x"}, "sft": {"recipe": "a"}}
    assert list(merged({"sft.recipe": "a"}, {"data.text": "x"})) == ["data", "sft"], "the order of the stages"
    assert merged(base, level, {"sft.recipe": "b"})["sft"] == {"recipe": "b"}


@pytest.mark.parametrize(
    ("title", "name"), [("100/0", "100-0"), ("4 tokens, C-Abstractor", "4-tokens-C-Abstractor"), ("..", "level")]
)
def test_names_are_safe_in_files_and_records(title: str, name: str) -> None:
    assert slug(title) == name


def test_a_base_of_your_own(tmp_path: Path) -> None:
    path = tmp_path / "base.yaml"
    path.write_text("mix: {image_tokens: 4}\npretrain: {recipe: mm1_tiny}\n")
    assert read_base(str(path)) == {"mix.image_tokens": "4", "pretrain.recipe": "mm1_tiny"}
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("data: {}\nmix: 4\n")
    with pytest.raises(ConfigurationError, match=r"wrong.yaml, line 2: mix: expected a map of inputs, got '4'"):
        read_base(str(wrong))
    for text, message in (
        ("mix: {image_tokens: [4]}", r"line 1: mix.image_tokens: expected a value, got \['4'\]"),
        ("mixx: {a: 4}", "line 1: mixx.a"),
    ):
        with pytest.raises(ConfigurationError, match=f"base, {message}"):
            read_base(f"{text}\n# mine\n")


PIECES = [
    "'",
    '"',
    "{",
    "}",
    "[",
    "]",
    ":",
    ": ",
    ",",
    "\n",
    "\n  ",
    "- ",
    "#",
    "&a ",
    "*a ",
    "!!int ",
    "!x ",
    "? ",
    "~",
    "<<: ",
    "\t",
    "\x01",
    "é",
    "| ",
]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(TEXT)), st.integers(0, 8), st.sampled_from(["", *PIECES])), min_size=1, max_size=4)
)
def test_a_damaged_file_is_a_study_or_an_error_on_one_line(edits: list[tuple[int, int, str]]) -> None:
    text = TEXT
    for start, length, piece in edits:
        text = text[:start] + piece + text[start + length :]
    try:
        read_studies(f"{text}\n\n# end")
    except ConfigurationError as error:
        assert str(error).startswith("study") and "\n" not in str(error)
