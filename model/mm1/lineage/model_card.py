"""The model card of an exported model (README.md): recipe, data, scores, limits, how to load and verify it.

    checkpoint, its ancestors, its EvalReports, config.json, image layout -> render_card -> Markdown

It has only what manifests and the configuration record; what they do not record, such as licences, it says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mm1.errors import DataError
from mm1.lineage.graph import Lineage
from mm1.manifests import Checkpoint, DataMix, EvalReport, RawData, digest_of_manifest, load_digest
from mm1.store.base import Store

CARD_NAME = "README.md"

TEMPLATE = """\
---
library_name: transformers
pipeline_tag: image-text-to-text
tags: [mm1]
---

# {{ checkpoint.recipe | cell }}

A multimodal language model that takes text with any number of images and answers with text: a `{{ vision }}` vision tower,
the connector `{{ config.connector_type }}` with {{ config.image_tokens }} tokens \
{{ "an image" if layout.is_single else "a tile of an image" }}, and a `{{ text }}` decoder;
{{ num_parameters | number }} parameters. Trained with MM1, from checkpoint `{{ digest }}`.

## Load it

```python
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

folder = "."  # this folder
model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)

picture = Image.new("RGB", (64, 64), "red")
turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what is it ?"}]}
prompt = processor.apply_chat_template([turn], add_generation_prompt=True, tokenize=False)
inputs = processor(text=prompt, images=[picture])
with torch.no_grad():
    tokens = model.generate(**inputs)
print(processor.tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```

`trust_remote_code=True` runs the Python files of this folder. `generate` ends with the turn, and answers greedily.

## Training

| stage | recipe | steps | sequences | tokens | images | checkpoint |
|---|---|--:|--:|--:|--:|---|
{% for name, stage in stages -%}
| {{ stage.stage | cell }} | {{ stage.recipe | cell }} | {{ stage.step | number }} of {{ stage.total_steps | number }} \
| {{ stage.sequences_seen | number }} | {{ stage.tokens_seen | number }} | {{ stage.images_seen | number }} \
| `{{ name[:12] }}` |
{% endfor %}
Tokens are those of all sequences without padding.
{%- if not stages[-1][1].finished %} **The training of this checkpoint was not finished.**{% endif %}

## Data
{% if not mixes %}
No mixture of this checkpoint is in the store.
{% endif %}
{%- for name, mix in mixes %}
Mixture `{{ name[:12] }}`: sequences of {{ mix.sequence_length | number }} tokens, weights by {{ mix.weights_by }}.

| source | weight | samples | images | text tokens |
|---|--:|--:|--:|--:|
{% for source in mix.sources -%}
| {{ source.name | cell }} | {{ "{:.1%}".format(source.weight) }} | {{ source.num_samples | number }} \
| {{ source.num_images | number }} | {{ source.num_text_tokens | number }} |
{% endfor %}
{%- endfor %}
{%- if raw %}
Filters on the way, by source:

| source | format | read | kept |
|---|---|--:|--:|
{% for name, source in raw -%}
| {{ name | cell }} | {{ source.format | cell }} | {{ source.num_read | number }} | {{ source.num_samples | number }} |
{% endfor %}
{%- endif %}
## Scores
{% if not scores %}
No evaluation of this checkpoint is in the store.
{% else %}
With standard errors over items. Shots are demonstrations in the prompt; the control shows each question another image.

| task | split | metric | shots | control | score | items | chance |
|---|---|---|--:|---|--:|--:|--:|
{% for score in scores -%}
| {{ score.task | cell }} | {{ score.split | cell }} | {{ score.metric | cell }} | {{ score.shots }} | {{ score.control }} \
| {{ "{:.3f} ± {:.3f}".format(score.value, score.stderr) }} | {{ score.num_items | number }} \
| {{ "–" if score.chance is none else "{:.3f}".format(score.chance) }} |
{% endfor %}
{%- endif %}
## Limits

{% if scores -%}
- Only the tasks above were measured; other tasks, languages and kinds of images were not.
{%- else -%}
- Nothing was measured.
{%- endif %}
- The mixture above is all the data of its training that the manifests record; a pretrained part brings its own.
{%- if context %}
- The context is {{ context | number }} tokens, of which each image takes \
{% if layout.is_single %}{{ config.image_tokens }}{% else %}up to {{ (layout.max_count * config.image_tokens) | number }}\
{{ ", and those of the marks between tiles" if layout.marks != "none" }}{% endif %}.
{%- endif %}
{%- if not layout.is_single %}
- Images are divided as `{{ layout }}` says: into up to {{ layout.max_count }} tiles of {{ config.image_tokens }} tokens, \
including an overview. Those of a text with more than {{ layout.max_images }} images are not divided.
{%- endif %}
- It can describe what is not in the image. No filter checks its answers.

## Licence

The manifests record no licence of the data or of the weights. The Python files of this folder are part of MM1 (Apache-2.0).

## Lineage and signature

`mm1 lineage {{ digest }}` prints all that this model was made from. If the folder has a `model.sig`, verify it with the public
key of the signer:

```bash
pip install model-signing pyOpenSSL
model_signing verify key . --signature model.sig --public_key mm1.pub
```
"""


def known_ancestors(store: Store, manifest: Checkpoint) -> Lineage:
    """Load a checkpoint's ancestors, nearest first, without those that the store no longer has."""
    lineage: Lineage = {digest_of_manifest(manifest): manifest}
    queue = list(manifest.parents)
    while queue:
        digest = queue.pop(0)
        if digest in lineage:
            continue
        try:
            lineage[digest] = load_digest(store, digest)
        except DataError:
            continue
        queue.extend(lineage[digest].parents)
    return lineage


def render_card(
    lineage: Lineage, reports: Sequence[EvalReport], config: Mapping[str, Any], layout: Any, num_parameters: int
) -> str:
    """Render the model card.

    Args:
        lineage: the checkpoint first, then its ancestors.
        reports: evaluations of the checkpoint, the newest last; of equal scores the newest counts.
        config: fields of the model's config.json.
        layout: the ImageLayout of its processor.
        num_parameters: parameters of the model as it is exported, its adapters merged.

    Returns:
        Markdown.
    """
    from jinja2 import Environment, StrictUndefined

    digest, checkpoint = next(iter(lineage.items()))
    raws = [manifest for manifest in lineage.values() if isinstance(manifest, RawData)]
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    environment.filters |= {"cell": _cell, "number": "{:,}".format}
    return environment.from_string(TEMPLATE).render(
        digest=digest,
        checkpoint=checkpoint,
        config=config,
        layout=layout,
        num_parameters=num_parameters,
        vision=_cell(config.get("vision_config", {}).get("model_type", "?")),
        text=_cell(config.get("text_config", {}).get("model_type", "?")),
        context=config.get("text_config", {}).get("max_position_embeddings"),
        stages=[(name, item) for name, item in reversed(lineage.items()) if isinstance(item, Checkpoint)],
        mixes=[(name, item) for name, item in reversed(lineage.items()) if isinstance(item, DataMix)],
        raw=sorted({name: source for raw in reversed(raws) for name, source in raw.sources.items()}.items()),
        scores=_newest_scores(reports),
    )


def _newest_scores(reports: Sequence[EvalReport]) -> list[Any]:
    newest: dict[tuple[Any, ...], Any] = {}
    for report in reports:
        for score in report.scores:
            newest[score.task, score.split, score.metric, score.shots, score.control] = score
    return [newest[key] for key in sorted(newest)]


def _cell(text: object) -> str:
    """Escape a name for a table in Markdown: it can neither end its cell nor bring markup."""
    plain = " ".join(str(text).split())
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|!" else letter for letter in plain)
