"""Chat templates of decoder families: what is learnt, one text in training and generation, folders that cannot be used."""

import json
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from mm1.data.load.documents import build_documents
from mm1.data.load.image_tiles import ImageTiles, count_marks, layout_of
from mm1.data.prepare.files.raw import OddRow, cleaner
from mm1.data.prepare.sources.conversations import chat_parts, family_parts
from mm1.data.sample import ImagePart, Sample
from mm1.data.tokenizer import TextTokenizer, adopt_folder, family_template, train_bpe
from mm1.errors import ConfigurationError
from mm1.generation.chat import chat_prompt
from mm1.generation.prompt import Message
from mm1.generation.tiles import PromptDivision
from mm1.modeling.processing import build_processor
from mm1.modeling.stopping import stop_token_ids
from tests.support.chat_templates import TEMPLATES, TEXTS, family_folder
from tests.support.mixtures import encoded_image

FAMILIES = ("chatml", *TEMPLATES)
SIDE, IMAGE = 16, encoded_image(0, size=(30, 17))
LAYOUTS = ("single", "static,marks=separators", "dynamic,grid=1-6", "dynamic,grid=2-6,marks=separators")


@pytest.fixture(scope="module")
def families(tmp_path_factory):
    """Family -> template (None for ChatML), training's tokenizer, processor."""

    @cache
    def load(family):
        root = tmp_path_factory.mktemp(family)
        source = train_bpe(TEXTS * 5, root / "own", 400) if family == "chatml" else family_folder(family, root / "own")
        folder = adopt_folder(source, root / "adopted")
        tokenizer = AutoTokenizer.from_pretrained(folder)
        template = family_template(folder)
        processor = build_processor(tokenizer, 3, SIDE, chat_template=template.text if template else None)
        return template, TextTokenizer.from_folder(folder), processor

    return load


WORDS = st.lists(st.sampled_from([*"ab .?!\n\t'é<|", "user", "\n\n", "a photo of", "red"]), min_size=1, max_size=8).map("".join)
TURN = st.lists(st.one_of(WORDS, st.just(None)), min_size=1, max_size=4)
"""Texts and images (None) of a turn."""
ANSWER = WORDS.filter(lambda text: text.strip())
CHAT = st.lists(st.tuples(TURN, ANSWER), min_size=1, max_size=3)


def texts_of(pieces):
    """Texts around the images of a turn."""
    texts = [""]
    for piece in pieces:
        if piece is None:
            texts.append("")
        else:
            texts[-1] += piece
    return texts


def messages_of(chat, system):
    made = [("system", [system])] if system else []
    for question, answer in chat:
        made += [("user", texts_of(question)), ("assistant", [answer])]
    return made


def content_of(texts):
    """The content of a message of generation, with images."""
    content = [texts[0]]
    for text in texts[1:]:
        content += [IMAGE, text]
    return tuple(content)


def prompt_ids(processor, prompt):
    image = [processor.image_token_id] * processor.image_tokens
    parts = PromptDivision.of(processor.layout, SIDE, prompt).divided(prompt)
    return [token for part in parts for token in (processor.encode(part) if isinstance(part, str) else image)]


def tiles_of(tokenizer, layout="single"):
    """The division of images in training."""
    parsed = layout_of(layout)
    return ImageTiles(parsed, SIDE, 3, count_marks(parsed, tokenizer))


def learnt_in(document):
    """Start and end of each run of learnt tokens, without the end of the document."""
    loss = [*document.loss.tolist()[:-1], False]
    starts = [n for n, learnt in enumerate(loss) if learnt and not loss[n - 1]]
    return [(start, loss.index(False, start)) for start in starts]


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=20, deadline=None)
@given(chat=CHAT, system=st.sampled_from(["", "answer briefly ."]), layout=st.sampled_from(LAYOUTS))
def test_training_and_generation_agree_token_by_token_and_the_answers_alone_are_learnt(families, family, chat, system, layout):
    template, tokenizer, processor = families(family)
    num_images = sum(piece is None for question, _ in chat for piece in question)
    # The images of a conversation that ends later may be too many to be divided, in training alone.
    processor.image_layout = layout if num_images <= 2 else "single"
    clean = cleaner(tokenizer.reserved_texts())
    messages = messages_of(chat, system)
    several = [chat_parts(messages, clean)] if template is None else family_parts(messages, clean, template)
    turns = [Message(role, content_of(list(map(clean, texts)))) for role, texts in messages]
    prompts = [
        prompt_ids(processor, chat_prompt(processor, turns[:n])) for n, turn in enumerate(turns) if turn.role == "assistant"
    ]
    end = TEMPLATES[family][2] if template else "<|im_end|>"
    learnt = []
    for parts in several:
        images = [IMAGE] * sum(isinstance(part, ImagePart) for part in parts)
        division = tiles_of(tokenizer, processor.image_layout)
        (document,) = build_documents([Sample("k", "instructions", parts, images)], tokenizer, division)
        ids = document.ids.tolist()
        learnt += [(ids[:start], ids[start:stop]) for start, stop in learnt_in(document)]
        assert document.loss[-1] and ids[-1] == tokenizer.eos_id
    assert [prompt for prompt, _ in learnt] == prompts
    for (_, ids), (_, answer) in zip(learnt, chat, strict=True):
        text = tokenizer.decode(ids)
        assert text.endswith(clean(answer) + end) and text.removesuffix(clean(answer) + end) in (
            "",
            " ",
            "<think>\n\n</think>\n\n",
        )
        assert ids[-1] in stop_token_ids(processor.tokenizer) and ids.count(ids[-1]) == 1


@pytest.mark.parametrize("family", TEMPLATES)
def test_the_text_is_that_of_transformers(families, family):
    template, _, processor = families(family)
    chat = [{"role": "user", "content": "what is it ?"}, {"role": "assistant", "content": " a ring \n"}]
    for messages, prompt in ((chat, False), (chat[:1], True), ([*chat, chat[0]], True)):
        expected = processor.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        assert template.render(messages, prompt) == expected
    parts = [{"type": "image"}, {"type": "text", "text": "what ?"}]
    assert "<image>what ?" in processor.apply_chat_template([{"role": "user", "content": parts}], tokenize=False)


def test_what_is_learnt_is_the_generation_block_of_a_template_that_has_one(families):
    template, tokenizer, processor = families("marked")
    chat = [
        {"role": role, "content": text}
        for role, text in (("user", "first ?"), ("assistant", "red ring"), ("user", "second ?"), ("assistant", "a ring ."))
    ]
    masked = processor.tokenizer.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=True)
    (parts,) = family_parts([(turn["role"], [turn["content"]]) for turn in chat], str, template)
    (document,) = build_documents([Sample("k", "instructions", parts, [])], tokenizer, tiles_of(tokenizer))
    assert document.ids.tolist()[:-1] == masked["input_ids"]
    assert document.loss.tolist()[:-1] == [bool(token) for token in masked["assistant_masks"]]


def test_a_template_that_changes_earlier_turns_gives_a_document_for_each_answer(families):
    chat = [("user", ["one ?"]), ("assistant", ["red"]), ("user", ["two ?"]), ("assistant", ["blue"])]
    first, second = family_parts(chat, str, families("thinking")[0])
    assert [part.text for part in first if part.loss] == ["<think>\n\n</think>\n\nred<|im_end|>"]
    assert [part.text for part in second if part.loss] == ["<think>\n\n</think>\n\nblue<|im_end|>"]
    assert "red<|im_end|>" in "".join(part.text for part in second)
    documents = family_parts([("system", ["be brief"]), *chat], str, families("mistral")[0])
    assert [[part.text for part in parts if part.loss] for parts in documents] == [
        [" red<|endoftext|>"],
        [" blue<|endoftext|>"],
    ]
    assert len(family_parts(chat, str, families("mistral")[0])) == 1


def test_a_conversation_that_the_template_refuses_is_an_odd_row(families):
    chat = [("user", ["one ?"]), ("user", ["two ?"]), ("assistant", ["red"])]
    with pytest.raises(OddRow, match=r"refused_by_chat_template.*roles must alternate"):
        family_parts(chat, str, families("gemma")[0])


def test_a_system_prompt_begins_the_first_question_if_the_template_refuses_it(families):
    chat = [("system", ["be brief"]), ("user", ["", "one ?"]), ("assistant", ["red"])]
    (parts,) = family_parts(chat, str, families("gemma")[0])
    first, image, second, *_ = parts
    assert first.text.endswith("<start_of_turn>user\nbe brief\n\n") and isinstance(image, ImagePart)
    assert second.text == "one ?<end_of_turn>\n<start_of_turn>model\n"


def test_adopting_keeps_a_familys_template_and_chatml_stays_as_it_was(tmp_path):
    own = adopt_folder(family_folder("gemma", tmp_path / "gemma"), tmp_path / "adopted")
    again = adopt_folder(own, tmp_path / "again")
    assert all((again / path.name).read_bytes() == path.read_bytes() for path in own.iterdir())
    tokens = json.loads((own / "tokenizer.json").read_text())["added_tokens"]
    assert "<image>" in [token["content"] for token in tokens] and "<|im_start|>" not in [token["content"] for token in tokens]
    trained = train_bpe(TEXTS, tmp_path / "bpe", 300)
    copy = adopt_folder(trained, tmp_path / "copy")
    assert all((copy / path.name).read_bytes() == path.read_bytes() for path in trained.iterdir())
    assert family_template(copy) is None
    file = family_folder("llama", tmp_path / "file")
    config = json.loads((file / "tokenizer_config.json").read_text())
    (file / "chat_template.jinja").write_text(config.pop("chat_template"))
    (file / "tokenizer_config.json").write_text(json.dumps(config))
    assert "<|eot_id|>" in family_template(adopt_folder(file, tmp_path / "from-file")).text


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ messages[0]['content'] }}", "does not begin an answer as the prompt of a generation ends"),
        ("{% for message in messages %}{{ message['role'] }}{% endfor %}", "does not begin an answer|leaves out"),
        ("{{ raise_exception('no') }}", "no; remove chat_template"),
        ("{% for %}", "remove chat_template"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_with_the_remedy(tmp_path, template, message):
    folder = family_folder("qwen", tmp_path / "own")
    config = json.loads((folder / "tokenizer_config.json").read_text()) | {"chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigurationError, match=message):
        adopt_folder(folder, tmp_path / "adopted")
