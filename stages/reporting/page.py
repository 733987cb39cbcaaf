"""The report's HTML: one self-contained page from plain sections."""

from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1180px;margin:2rem auto;padding:0 1rem;color:#222}
h1{font-size:1.6rem} h2{font-size:1.2rem;margin-top:2.2rem;border-bottom:1px solid #ddd}
table{border-collapse:collapse;font-size:13px}
td,th{padding:.2rem .7rem;border-bottom:1px solid #eee;text-align:left}
td.number{text-align:right;font-variant-numeric:tabular-nums} img{max-width:100%} figure{margin:.8rem 0}
figcaption{color:#666;font-size:13px} .row{display:flex;flex-wrap:wrap;gap:1rem}
svg{max-width:100%;height:auto} .best{font-weight:600}
"""

TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title><style>{{ style }}</style></head><body>
<h1>{{ title }}</h1>
{% for section in sections %}<h2>{{ section.title }}</h2>
{% if section.text %}<p>{{ section.text }}</p>{% endif %}
{% if section.table %}<table><tr>{% for h in section.table[0] %}<th>{{ h }}</th>{% endfor %}</tr>
{% for line in section.table[1:] %}<tr>{% for cell in line -%}
<td{% if cell is number %} class="number"{% endif %}>{{ cell | figure }}</td>{% endfor %}</tr>
{% endfor %}</table>{% endif %}
{% if section.svg %}{{ section.svg | safe }}{% endif %}
<div class="row">{% for caption, uri in section.images %}<figure><img src="{{ uri }}" alt="{{ caption }}">
<figcaption>{{ caption }}</figcaption></figure>{% endfor %}</div>
{% endfor %}</body></html>
"""


@dataclass
class Section:
    """One heading with any of: a text, a table (first line = headings), an inline SVG, captioned pictures."""

    title: str
    text: str = ""
    table: list[list[Any]] = field(default_factory=list)
    svg: str = ""
    images: list[tuple[str, str]] = field(default_factory=list)


def render_page(title: str, sections: list[Section]) -> str:
    """The page; texts are escaped, SVG comes from our own plotting."""
    environment = Environment(autoescape=True)
    environment.filters["figure"] = _figure
    return environment.from_string(TEMPLATE).render(title=title, sections=sections, style=STYLE)


def _figure(cell: Any) -> str:
    if cell is None:
        return "–"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
