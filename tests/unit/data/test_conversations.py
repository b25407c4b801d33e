"""Conversations in the forms of LLaVA, ShareGPT, OpenAI and the_cauldron, and what is repaired, left out or odd."""

import base64
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mm1.data.prepare.files.raw import Odd, cleaner
from mm1.data.prepare.locations.roots import LeftOut, LocalRoot
from mm1.data.sample import ImagePart, Sample
from mm1.data.tokenizer import SPECIAL_TOKENS
from tests.support.mixtures import encoded_image
from tests.support.raw_files import items_of

CLEAN = cleaner(SPECIAL_TOKENS)
IMAGES = [encoded_image(number, image_format="JPEG") for number in range(3)]
GOOD = {"conversations": [{"from": "human", "value": "good ?"}, {"from": "gpt", "value": "good"}]}


def write_images(folder):
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(IMAGES):
        (folder / "images" / f"{number}.jpg").write_bytes(data)


def items(folder, *rows):
    write_images(folder)
    (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (GOOD, *rows)))
    good, *others = items_of("instructions", LocalRoot(folder), CLEAN)
    assert text_of(good) == "user: good ? / assistant: good"
    return others


def text_of(sample):
    """The conversation in one line; ``[0]`` is image 0."""
    pieces = [
        f"[{IMAGES.index(sample.images[part.image])}]" if isinstance(part, ImagePart) else part.text for part in sample.parts
    ]
    text = "".join(pieces).replace("<|im_start|>", " / ").replace("<|im_end|>", "").replace("\n / ", " / ")
    return text.replace("user\n", "user: ").replace("assistant\n", "assistant: ").replace("system\n", "system: ").strip(" /\n")


def read(folder, row):
    """The conversation of a row, or the name of the odd row, and the reasons of what is left out."""
    first, *others = items(folder, row)
    if isinstance(first, Odd):
        assert not others and first.origin == "d.jsonl:2"
        return first.name
    assert all(isinstance(other, LeftOut) and other.name == "d.jsonl:2" for other in others)
    assert len(first.meta.get("addresses", [])) == len(first.images)
    return (text_of(first), *(other.reason for other in others))


def llava(*turns, **fields):
    """Turns of human and gpt in alternation."""
    return {
        "conversations": [{"from": ("human", "gpt")[index % 2], "value": turn} for index, turn in enumerate(turns)]
    } | fields


def chat(*messages, **fields):
    """Messages of role and content."""
    return {"messages": [{"role": role, "content": content} for role, content in messages]} | fields


DATA_URL = "data:image/jpeg;base64," + base64.b64encode(IMAGES[1]).decode()
FORMS = {
    "llava": llava("<image>\nwhat ?", "that", image="0.jpg"),
    "prefix": llava("<image>\nwhat ?", "that", image="images/0.jpg"),
    "list": llava("<image>\nwhat ?", "that", images=["0.jpg"]),
    "struct": llava("<image>\nwhat ?", "that", image={"path": "0.jpg"}),
    "base64 struct": llava("<image>\nwhat ?", "that", image={"bytes": base64.b64encode(IMAGES[0]).decode(), "path": "x.jpg"}),
    "base64": llava("<image>\nwhat ?", "that", image=base64.encodebytes(IMAGES[0]).decode()),
    "integers": llava("<image>\nwhat ?", "that", image={"bytes": list(IMAGES[0]), "path": None}),
    "both fields": llava("<image>\nwhat ?", "that", image="0.jpg", images=["0.jpg"]),
    "empty other field": llava("<image>\nwhat ?", "that", image="0.jpg", images=[], video=None),
    "no placeholder": llava("what ?", "that", image="0.jpg"),
    "messages": chat(("user", "<image>\nwhat ?"), ("assistant", "that"), image="0.jpg"),
    "upper case": chat(("User", "<image>\nwhat ?"), ("ASSISTANT", "that"), image="0.jpg"),
    "parts": chat(("user", [{"type": "image"}, {"type": "text", "text": "\nwhat ?"}]), ("assistant", "that"), images=["0.jpg"]),
    "parts with index": chat(
        ("user", [{"type": "image", "index": 1}, {"type": "text", "text": "what ?"}]),
        ("assistant", "that"),
        images=["1.jpg", "0.jpg"],
    ),
    "parts with images": chat(
        ("user", [{"type": "image", "image": "0.jpg"}, {"type": "text", "text": "what ?"}]),
        ("assistant", [{"type": "text", "text": "that"}]),
    ),
    "parts of a table": chat(
        ("user", [{"type": "image", "text": None}, {"type": "text", "text": "what ?", "image": None}]),
        ("assistant", "that"),
        images=["0.jpg"],
    ),
    "image_url": chat(
        (
            "user",
            [{"type": "image_url", "image_url": {"url": "images/0.jpg", "detail": "low"}}, {"type": "text", "text": "what ?"}],
        ),
        ("assistant", "that"),
    ),
    "responses": chat(
        ("user", [{"type": "input_image", "image_url": "0.jpg"}, {"type": "input_text", "text": "what ?"}]),
        ("assistant", [{"type": "output_text", "text": "that"}]),
    ),
    "cauldron": {"texts": [{"user": "what ?", "assistant": "that", "source": "x"}], "images": ["0.jpg"]},
    "json": {"conversations": json.dumps(llava("<image> what ?", "that")["conversations"]), "image": "0.jpg"},
    "lists": {"conversations": {"from": ["human", "gpt"], "value": ["<image> what ?", "that"]}, "image": "0.jpg"},
}


@pytest.mark.parametrize("form", FORMS)
def test_one_conversation_in_all_forms(tmp_path, form):
    assert read(tmp_path, FORMS[form]) == ("user: [0]what ? / assistant: that",)


REPAIRED = [
    # placeholders
    (llava("<image> and <image> ?", "they", images=["1.jpg", "0.jpg"]), ("user: [1]and[0]? / assistant: they",)),
    (llava("a ?", "b", "c ?", "d", images=["1.jpg", "0.jpg"]), ("user: [1][0]a ? / assistant: b / user: c ? / assistant: d",)),
    (llava("<image> hi", "In <image> one sees it.", image="0.jpg"), ("user: [0]hi / assistant: In  one sees it.",)),
    (llava("draw", "<image>", image="0.jpg"), ("user: draw / assistant: [0]",)),
    (llava("the tag <image>", "a tag"), ("user: the tag / assistant: a tag", "image placeholder without an image")),
    (llava("the tag", "is <image>", image=None), ("user: the tag / assistant: is",)),
    (
        chat(("user", [{"type": "image"}, "the tag <image>"]), ("assistant", "a"), image="2.jpg"),
        ("user: [2]the tag / assistant: a",),
    ),
    (chat(("user", [{"type": "image_url", "image_url": DATA_URL}]), ("assistant", "a")), ("user: [1] / assistant: a",)),
    # turns
    (llava("<image> a", "b", "c ?", image="0.jpg"), ("user: [0]a / assistant: b", "question without an answer")),
    (llava("a", "b", "<image> c ?", image="0.jpg"), ("user: a / assistant: b", "question without an answer")),
    (llava("a", "", "c", "d"), ("user: a\nc / assistant: d", "answer without text")),
    (llava("a", None, "c", "d"), ("user: a\nc / assistant: d", "answer without text")),
    (llava("a", "b", "c", " \n"), ("user: a / assistant: b", "answer without text", "question without an answer")),
    (
        chat(("assistant", "hi"), ("user", "a"), ("assistant", "b")),
        ("user: a / assistant: b", "answer before the first question"),
    ),
    (chat(("user", "a"), ("user", "b"), ("assistant", "c"), ("assistant", "d")), ("user: a\nb / assistant: c\nd",)),
    (llava("&lt;b&gt; &amp;", "x &lt; y"), ("user: &lt;b&gt; &amp; / assistant: x &lt; y",)),
    (llava("a", "b", system="be brief"), ("system: be brief / user: a / assistant: b",)),
    (llava("a", "b", system=""), ("user: a / assistant: b",)),
    (chat(("system", "s"), ("user", "a"), ("assistant", "b"), system="t"), ("system: s / user: a / assistant: b",)),
    (llava("half \ud83d", "\ud83d\ude00"), ("user: half � / assistant: 😀",)),
]


@pytest.mark.parametrize(("row", "expected"), REPAIRED)
def test_what_is_unambiguous_is_repaired_and_losses_are_counted(tmp_path, row, expected):
    assert read(tmp_path, row) == expected


ODD = [
    ({"id": 1}, "no_conversation"),
    ({"conversations": []}, "no_conversation"),
    ({"conversations": "what ?"}, "no_conversation"),
    ({"conversations": "[1"}, "no_conversation"),
    ({"conversations": ["what ?", "that"]}, "no_conversation"),
    ({"conversations": None}, "no_conversation"),
    ({"conversations": [{"from": "bing", "value": "x"}]}, "unknown_speaker"),
    ({"conversations": [{"from": 7, "value": "x"}]}, "unknown_speaker"),
    ({"conversations": [{"value": "x"}]}, "unknown_speaker"),
    (llava("a", "b", 7), "turn_not_text"),
    (llava("a", ["b", 7]), "turn_not_text"),
    (llava("a", {"x": "b"}), "turn_not_text"),
    (llava("a", "b", system=["x"]), "turn_not_text"),
    (chat(("user", "a"), ("assistant", "b"), ("tool", "c")), "tool_turn"),
    ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": None, "tool_calls": [{}]}]}, "tool_turn"),
    (llava("<image> what ?", "a dog", video="a.mp4"), "video_or_audio"),
    (chat(("user", [{"type": "video", "video": "a.mp4"}]), ("assistant", "b")), "video_or_audio"),
    (chat(("user", [{"type": "input_audio"}]), ("assistant", "b")), "video_or_audio"),
    (llava("<image><image> what ?", "a", image="0.jpg"), "image_count"),
    (llava("<image> what ?", "a", images=["0.jpg", "1.jpg"]), "image_count"),
    (llava("<image> what ?", "a", images=["0.jpg"], image="1.jpg"), "image_count"),
    (chat(("user", [{"type": "image"}, {"type": "image"}]), ("assistant", "a"), images=["0.jpg"]), "image_count"),
    (chat(("user", [{"type": "image", "index": 3}]), ("assistant", "a"), images=["0.jpg"]), "image_count"),
    (llava("what ?", "a", image=7), "image_type"),
    (llava("what ?", "a", image=True), "image_type"),
    (llava("what ?", "a", images=[[["0.jpg"]]]), "image_type"),
    (llava("what ?", "a", image={"x": 1}), "image_type"),
    (llava("what ?", "a", image="data:image/png;base64,???"), "image_not_base64"),
    (llava("what ?", "a", image="https://a.invalid/0.jpg"), "remote_image"),
    (llava("what ?", "a", image="../../etc/passwd"), "image_outside"),
    (llava("what ?"), "no_answer"),
    (llava("what ?", ""), "no_answer"),
    (chat(("assistant", "hi")), "no_answer"),
    (chat(("system", "hi")), "no_answer"),
]


@pytest.mark.parametrize(("row", "expected"), ODD)
def test_what_is_ambiguous_is_odd(tmp_path, row, expected):
    assert read(tmp_path, row) == expected


@pytest.mark.parametrize("name", ["9.jpg", "x" * 300 + ".jpg", "\ud83d.jpg", "0.jpg/1.jpg", "images"])
def test_an_image_that_does_not_exist_is_missing(tmp_path, name):
    (sample,) = items(tmp_path, llava("<image> what ?", "that", image=name))
    assert sample.images == [b""]
    sample.to_json()


def test_messages_do_not_hold_the_content_of_rows(tmp_path):
    for row in (
        llava("a", {"secret": 1}),
        llava("a", "b", image={"secret": "secret?"}),
        {"conversations": [{"from": "x" * 99}]},
    ):
        (odd,) = items(tmp_path, row)
        assert "secret?" not in odd.detail and "x" * 50 not in odd.detail


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_tables_of_the_cauldron_and_llava_onevision(tmp_path, form):
    image = {"bytes": IMAGES[0], "path": None}
    turns = [{"from": "human", "value": "<image>\nwhat ?"}, {"from": "gpt", "value": "that"}]
    tables = {
        "cauldron": [
            {
                "images": [image, {"bytes": IMAGES[1], "path": "x"}],
                "texts": [{"user": "a", "assistant": "b", "source": "s"}] * 2,
            }
        ],
        "onevision": [
            {"id": "0", "image": image, "conversations": turns, "data_source": "s"},
            {"id": "1", "image": None, "conversations": turns},
        ],
    }
    for name, rows in tables.items():
        table = pa.Table.from_pylist(rows)
        path = tmp_path / name / f"d.{form}"
        path.parent.mkdir()
        if form == "parquet":
            pq.write_table(table, path)
        else:
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
    (cauldron,) = items_of("instructions", LocalRoot(tmp_path / "cauldron"), CLEAN)
    assert text_of(cauldron) == "user: [0][1]a / assistant: b / user: a / assistant: b"
    first, second, lost = items_of("instructions", LocalRoot(tmp_path / "onevision"), CLEAN)
    assert (text_of(first), text_of(second)) == ("user: [0]what ? / assistant: that", "user: what ? / assistant: that")
    assert lost == LeftOut(f"d.{form}:2", 0, "image placeholder without an image")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["<image>", "0.jpg", "image", "user", "gpt"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "text", "image", "bytes", "path", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
TURN = st.fixed_dictionaries({}, optional={name: JSON for name in ("from", "value", "role", "content", "user", "assistant")})
FIELDS = ("conversations", "messages", "texts", "images", "image", "system", "video")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.fixed_dictionaries({}, optional={name: JSON | st.lists(TURN, max_size=3) for name in FIELDS}), st.data())
def test_any_json_in_any_field_gives_a_sample_or_an_odd_row(tmp_path, row, data):
    if data.draw(st.booleans()):
        row = data.draw(st.sampled_from(list(FORMS.values()))) | row
    first, *others = items(tmp_path, row)
    assert isinstance(first, Sample | Odd) and all(isinstance(other, LeftOut) for other in others)
    if isinstance(first, Sample):
        first.to_json()
        assert [part.image for part in first.parts if isinstance(part, ImagePart)] == list(range(len(first.images)))


def test_a_thousand_damaged_files_give_no_other_exception(tmp_path):
    from mm1.errors import DataError

    draw = random.Random(1)
    write_images(tmp_path)
    whole = json.dumps([*FORMS.values()] * 2).encode()
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            position = draw.randrange(len(data))
            data[position : position + draw.randint(0, 3)] = bytes(draw.choices(b'[]{}",:\\x\xff\0 ', k=draw.randint(0, 3)))
        (tmp_path / "d.json").write_bytes(b"[" + data[1:])
        try:
            assert all(
                isinstance(item, Sample | Odd | LeftOut) for item in items_of("instructions", LocalRoot(tmp_path), CLEAN)
            )
        except DataError as error:
            assert "d.json" in str(error)
