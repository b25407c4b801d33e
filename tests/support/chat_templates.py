"""Chat templates in the manner of model families, written for these tests, and tokenizers that bring them.

Each has the marks of its family: where the special tokens stand, what is trimmed, whether there is a system turn or a default
one, and what it renders differently once more turns follow.
"""

from __future__ import annotations

import json
from pathlib import Path

from mm1.data.tokenizer import train_bpe

_LLAMA = (
    "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{{ message['content'] | trim }}{{ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
_QWEN = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_THINKING = (
    "{%- for message in messages %}\n{{- '<|im_start|>' + message.role + '\n' }}\n"
    "{%- if message.role == 'assistant' and loop.last %}{{- '<think>\n\n</think>\n\n' }}{% endif %}\n"
    "{{- message.content + '<|im_end|>\n' }}\n{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
_GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)
_MISTRAL = (
    "{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content'] %}{%- set turns = messages[1:] %}"
    "{%- else %}{%- set turns = messages %}{%- endif %}{{- bos_token }}"
    "{%- for message in turns %}{%- if message['role'] == 'user' %}"
    "{%- if system is defined and (loop.last or loop.index0 == turns | length - 2) %}"
    "{{- '[INST] ' + system + '\n\n' + message['content'] + '[/INST]' }}"
    "{%- else %}{{- '[INST] ' + message['content'] + '[/INST]' }}{%- endif %}"
    "{%- else %}{{- ' ' + message['content'] | trim + eos_token }}{%- endif %}{%- endfor %}"
)
_MARKED = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ '<|assistant|>\n' }}"
    "{% generation %}{{ message['content'] + '<|end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
TEMPLATES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "llama": (_LLAMA, ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), "<|eot_id|>"),
    "qwen": (_QWEN, ("<|im_start|>", "<|im_end|>"), "<|im_end|>"),
    "thinking": (_THINKING, ("<|im_start|>", "<|im_end|>"), "<|im_end|>"),
    "gemma": (_GEMMA, ("<|begin_of_text|>", "<start_of_turn>", "<end_of_turn>"), "<end_of_turn>"),
    "mistral": (_MISTRAL, ("<|begin_of_text|>", "[INST]", "[/INST]"), "<|endoftext|>"),
    "marked": (_MARKED, ("<|user|>", "<|system|>", "<|assistant|>", "<|end|>"), "<|end|>"),
}
"""Family -> template, its special tokens, and the one that ends an answer."""
TEXTS = [
    "what colour is the ring ? red .",
    "user assistant system model describe the image a photo of a big blue ring .\n\n",
    "You are helpful. answer briefly . first second question",
]


def family_folder(family: str, folder: Path) -> Path:
    """A tokenizer's folder as a family publishes it: own special tokens and template, no image token."""
    template, tokens, _ = TEMPLATES[family]
    train_bpe(TEXTS * 5, folder, 400)
    tree = json.loads((folder / "tokenizer.json").read_text())
    specials = ("<|endoftext|>", *tokens)
    renamed = {"<image>": "<|unused_0|>", "<|im_start|>": "<|unused_1|>", "<|im_end|>": "<|unused_2|>"}
    tree["added_tokens"] = [
        token | {"content": renamed.get(token["content"], token["content"])} for token in tree["added_tokens"]
    ]
    vocabulary = {renamed.get(token, token): number for token, number in tree["model"]["vocab"].items()}
    for token in specials:
        if token not in vocabulary:
            tree["added_tokens"].append(tree["added_tokens"][0] | {"id": len(vocabulary), "content": token})
            vocabulary[token] = len(vocabulary)
    tree["model"]["vocab"] = {token: number for token, number in vocabulary.items() if token not in tokens}
    tree["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    (folder / "tokenizer.json").write_text(json.dumps(tree))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>", "chat_template": template}
    config |= {"bos_token": tokens[0]} if tokens[0] == "<|begin_of_text|>" else {}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder
