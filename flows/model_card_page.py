"""A model card for people, in Markdown."""

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, StrictUndefined

from flows.tables import flatten

TEMPLATE = """\
# DINAR weights `{{ name }}`

One photo → a rigged avatar; images of {{ image_size }}², textures of {{ texture_size }}² texels. Made by
`dinar weights release` at revision `{{ revision }}`; `card.json` says the same and more. `dinar avatar PHOTO
--out DIR` uses them where nothing was trained.

## Data

{% for set in data -%}
* `{{ set.name }}`: {{ set.title }} Licence: {{ set.licence }}. {{ set.citation }}
{% for split, people in set.people.items() %}  {{ split }}: {{ people }} people, {{ set.images[split] }} images.
{% endfor %}{% endfor %}
## Training

| stage | steps | device | seconds | peak MiB | finished |
|---|---|---|---|---|---|
{% for stage, run in training.items() -%}
| {{ stage }} | {{ run.steps }} | {{ run.device }} | {{ run.seconds }} | {{ run.peak_mib or "–" }} \
| {{ run.finished }} |
{% endfor %}
Seconds and memory are those of the process that ended the training: where it was interrupted, all of it took longer.

## Metrics of the test people

| metric | value |
|---|---|
{% for key, value in metrics if value is not none -%}
| {{ key }} | {{ "%.4g" | format(value) }} |
{% endfor %}
Measured, and to be used, with the section `reconstruct` of card.json: {{ sampling }}.

## Precision

Matrices and kernels of the networks are in half precision, vectors in single; body and atlas are those of the
training, byte for byte. Avatars of {{ rounding.people }} held-out people, made with both from the same seeds,
differ by {{ rounding.mean_change }} levels of 255 on average over the person's pixels, and by a PSNR of
{{ rounding.least_psnr }} dB in the view that differs most. The parser gives another class to
{{ "%.3f" | format(100 * rounding.parser_change) }} % of the photos' pixels.

## Limits

{% for sentence in limits -%}
* {{ sentence }}
{% endfor %}
## Files

| file | bytes | sha256 |
|---|---|---|
{% for file, facts in files.items() -%}
| {{ file }} | {{ facts.bytes }} | {{ facts.sha256[:16] }}… |
{% endfor %}
Parameters: {% for net, count in parameters.items() %}{{ net }} {{ "{:,}".format(count) }}{{ ", " if not loop.last }}\
{% endfor %}.
"""


def card_page(card: Mapping[str, Any]) -> str:
    """The card's content as a page."""
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    sampling = ", ".join(f"{name} {value}" for name, value in card["reconstruct"].items())
    values = {**card, "metrics": list(flatten(card["metrics"])), "sampling": sampling}
    return environment.from_string(TEMPLATE).render(values)
