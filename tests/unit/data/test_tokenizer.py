"""Tokenizers: trained ones and adopted ones are what transformers reads too; chat text is cut as the processor cuts it."""

import json

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer

from mm1.data.load.documents import build_documents
from mm1.data.load.image_tiles import ImageTiles
from mm1.data.prepare.files.raw import cleaner
from mm1.data.prepare.sources.conversations import chat_parts
from mm1.data.sample import ImagePart, Sample
from mm1.data.tokenizer import SPECIAL_TOKENS, TextTokenizer, adopt_folder, train_bpe
from mm1.errors import ConfigurationError
from mm1.modeling import processing
from mm1.modeling.image_layout import ImageLayout
from tests.support.mixtures import encoded_image

TEXTS = ["a red ring is on the left .", "what is it ? a blue circle .", "big and small"] * 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return train_bpe(TEXTS, tmp_path_factory.mktemp("bpe"), 300)


def test_special_tokens_have_fixed_ids_and_a_word_one_token(folder):
    tokenizer = TextTokenizer.from_folder(folder)
    assert [tokenizer.tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3]
    assert (tokenizer.eos_id, tokenizer.image_id) == (0, 1)
    first, inside = tokenizer.encode(["ring", "a ring"])
    assert first == inside[-len(first) :] and len(inside) == len(first) + 1


def test_training_is_deterministic(folder, tmp_path):
    again = train_bpe(iter(TEXTS), tmp_path / "again", 300)
    for path in folder.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()


def test_bytes_survive(folder):
    tokenizer = TextTokenizer.from_folder(folder)
    text = "größe 🦊 \n x"
    assert tokenizer.decode(tokenizer.encode([text])[0]).strip() == text


def test_transformers_reads_the_same_ids(folder):
    theirs, ours = AutoTokenizer.from_pretrained(folder), TextTokenizer.from_folder(folder)
    for text in [*TEXTS[:3], "<|im_start|>user\nwhat<|im_end|>\n", "unseen wörds"]:
        assert theirs.encode(text, add_special_tokens=False) == ours.encode([text])[0]
    assert (theirs.eos_token_id, theirs.pad_token_id) == (0, 0)


def test_chat_parts_give_the_tokens_of_the_processor(folder):
    tokenizer = TextTokenizer.from_folder(folder)
    messages = [("user", ["", "what is it ?"]), ("assistant", ["a red ring ."]), ("user", ["big ?"]), ("assistant", ["small"])]
    sample = Sample("k", "instructions", chat_parts(messages, cleaner(SPECIAL_TOKENS)), [encoded_image(0)])
    (document,) = build_documents([sample], tokenizer, ImageTiles(ImageLayout(), 16, image_tokens=4))
    processor = processing.build_processor(AutoTokenizer.from_pretrained(folder), image_tokens=4, image_size=16)
    chat = [
        {"role": role, "content": [{"type": "image"}, {"type": "text", "text": texts[1]}] if len(texts) > 1 else texts[0]}
        for role, texts in messages
    ]
    text = processor.apply_chat_template(chat)
    assert "".join("<image>" if isinstance(part, ImagePart) else part.text for part in sample.parts) == text
    assert document.ids.tolist() == [*processor.encode(text), tokenizer.eos_id]
    learnt = tokenizer.decode(document.ids[document.loss].tolist())
    assert learnt.split() == ["a", "red", "ring", ".<|im_end|>", "small<|im_end|><|endoftext|>"]


def test_chat_template_is_the_processors(folder):
    chat = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "x"}]},
        {"role": "assistant", "content": "y"},
    ]
    theirs = AutoTokenizer.from_pretrained(folder)
    processor = processing.build_processor(theirs, image_tokens=4, image_size=16)
    ours = theirs.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert ours == processor.apply_chat_template(chat, add_generation_prompt=True)


def foreign_folder(folder, config):
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_tokens(sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.add_special_tokens(["</s>", "<|im_end|>"])
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"heavy")
    return folder


def test_a_foreign_folder_gets_the_missing_tokens(tmp_path):
    source = foreign_folder(
        tmp_path / "source", {"eos_token": {"content": "</s>"}, "tokenizer_class": "PreTrainedTokenizerFast"}
    )
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    adopted = adopt_folder(source, tmp_path / "copy")
    tokenizer = TextTokenizer.from_folder(adopted)
    assert tokenizer.tokenizer.id_to_token(tokenizer.eos_id) == "</s>"
    assert {"<image>", "<|im_start|>", "<|im_end|>", "</s>"} <= set(tokenizer.reserved_texts())
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before
    assert sorted(path.name for path in adopted.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]
    theirs = AutoTokenizer.from_pretrained(adopted)
    assert theirs.encode("a<image>b", add_special_tokens=False) == tokenizer.encode(["a<image>b"])[0]
    again = adopt_folder(adopted, tmp_path / "again")
    assert (again / "tokenizer.json").read_bytes() == (adopted / "tokenizer.json").read_bytes()


def test_unusable_folders_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"no tokenizer\.json"):
        adopt_folder(tmp_path, tmp_path / "copy")
    with pytest.raises(ConfigurationError, match="eos_token"):
        adopt_folder(foreign_folder(tmp_path / "a", {}), tmp_path / "copy")
    with pytest.raises(ConfigurationError, match="not in its vocabulary"):
        adopt_folder(foreign_folder(tmp_path / "b", {"eos_token": "<eos>"}), tmp_path / "copy")
    broken = foreign_folder(tmp_path / "c", {"eos_token": "</s>"})
    (broken / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="cannot read"):
        adopt_folder(broken, tmp_path / "copy")
    with pytest.raises(ConfigurationError, match="260"):
        train_bpe(["a"], tmp_path / "small", 100)
