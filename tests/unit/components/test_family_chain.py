"""A tokenizer with its family's chat template, from ingest to prompts of the server: one template everywhere."""

import json

import pytest

from mm1.data.load.loader import MixtureLoader
from mm1.data.tokenizer import TextTokenizer
from mm1.errors import Outcome
from mm1.generation.generator import Generator
from mm1.generation.prompt import Message
from mm1.manifests import DataMix, RawData, load
from mm1.modeling.export import export
from mm1.modeling.processing import MM1Processor
from mm1.modeling.stopping import stop_token_ids
from mm1.serve.api.prompts import Prompts
from mm1.serve.config import ServeSettings
from mm1.store.open import open_store
from mm1.train.model import build_model
from mm1_components.data_mix import STEP as MIX
from mm1_components.ingest import STEP as INGEST
from tests.support.chat_templates import TEMPLATES, family_folder
from tests.support.data_steps import run
from tests.support.mixtures import encoded_image
from tests.support.tiny_runs import small_run


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("family")
    raw = folder / "raw"
    (raw / "images").mkdir(parents=True)
    for number in range(3):
        (raw / "images" / f"{number}.png").write_bytes(encoded_image(number, side=32))
    turns = [
        ("human", "<image>\nwhat is it ?"),
        ("gpt", "a red ring"),
        ("human", "<image> and <image> ?"),
        ("gpt", "two rings"),
    ]
    rows = [
        {
            "conversations": [{"from": who, "value": f"{text} {row}"} for who, text in turns],
            "images": ["0.png", "1.png", "2.png"],
        }
        for row in range(4)
    ]
    (raw / "train.json").write_text(json.dumps(rows))
    tokenizer = family_folder("llama", folder / "tokenizer")
    outcome, data = run(INGEST, folder, instructions=raw, tokenizer=tokenizer, preset="toy")
    assert outcome is Outcome.DONE
    outcome, mix = run(MIX, folder, data=data, weights="instructions=1", sequence_length=256)
    assert outcome is Outcome.DONE
    return folder, load(data, RawData), load(mix, DataMix)


def test_prompts_of_the_server_are_the_beginnings_of_the_documents_of_training(chain, tmp_path):
    folder, raw, mix = chain
    store = open_store(str(folder / "store"))
    model, processor = build_model(small_run("mm1_tiny"), mix, store, tmp_path)
    tokenizer = TextTokenizer.from_store(store, raw.tokenizer)
    batch = next(iter(MixtureLoader(store, mix, raw, micro_batch=1, global_batch=1, rank=0, world_size=1)))
    ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
    learnt = tokenizer.decode([label for label in labels if label >= 0])
    assert learnt.startswith("a red ring") and learnt.count("<|eot_id|>") == 2 * learnt.count("<|endoftext|>")
    prompts = Prompts(Generator(model.eval(), processor), ServeSettings())
    row = learnt.split("<|eot_id|>")[0].rpartition(" ")[2]
    image = [encoded_image(number, side=32) for number in range(3)]
    first = (Message("user", (image[0], f"what is it ? {row}")),)
    asked = (*first, Message("assistant", (f"a red ring {row}",)), Message("user", (image[1], "and", image[2], f"? {row}")))
    for messages in (first, asked):
        prompt = prompts.ids_of(prompts.chat(messages))
        assert ids[: len(prompt)] == prompt and labels[len(prompt)] == ids[len(prompt)]
    assert tokenizer.tokenizer.token_to_id(TEMPLATES["llama"][2]) in stop_token_ids(processor.tokenizer)
    exported = MM1Processor.from_pretrained(export(model, processor, tmp_path / "exported"))
    assert exported.chat_template == processor.chat_template
    settings = json.loads((tmp_path / "exported" / "generation_config.json").read_text())
    assert tokenizer.tokenizer.token_to_id("<|eot_id|>") in settings["eos_token_id"]
