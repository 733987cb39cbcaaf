"""Profiles: `demo` is the commented base, the others change some of its values and comments."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
PROFILES = ROOT / "profiles"
PARAMS = ROOT / "params.yaml"
BASE = "demo"

_KEY = re.compile(r"(?P<body>(?P<indent>  )?(?P<key>\w+):.*?)(?:\s+# (?P<comment>.*))?")
_COMMENT_COLUMN = 23


class ProfileError(ValueError):
    """An unknown profile, or local edits that would be lost."""


def profile_names() -> list[str]:
    """All profiles, the base first."""
    return sorted((p.stem for p in PROFILES.glob("*.yaml")), key=lambda name: (name != BASE, name))


def render_profile(name: str) -> str:
    """The text of params.yaml for a profile: the base with the profile's values, and comments where it has some."""
    import io

    if name not in profile_names():
        raise ProfileError(f"no profile {name!r}; there are {', '.join(profile_names())}")
    yaml = _yaml()
    text = (PROFILES / f"{BASE}.yaml").read_text()
    if name == BASE:
        return text
    document, own = yaml.load(text), (PROFILES / f"{name}.yaml").read_text()
    _merge(document, yaml.load(own), name)
    buffer = io.StringIO()
    yaml.dump(document, buffer)
    return _with_comments(buffer.getvalue(), own)


def use_profile(name: str, target: Path = PARAMS, force: bool = False) -> None:
    """Write params.yaml. Refuses to write over a file that is no unchanged profile, unless forced."""
    text = render_profile(name)
    if target.exists() and not force:
        current = target.read_text()
        if all(current != render_profile(other) for other in profile_names()):
            raise ProfileError(f"{target.name} has local edits; save them elsewhere or say --force")
    target.write_text(text)


def _merge(base: Any, changes: Any, where: str) -> None:
    """Put `changes` into `base`; a section may gain keys that the base leaves at their defaults.

    Whether these keys exist is for the check of the parameters to say.
    """
    for key, value in changes.items():
        if isinstance(value, dict):
            if key not in base:
                raise ProfileError(f"profile {where}: {key!r} is no section of {BASE}")
            _merge(base[key], value, f"{where}.{key}")
        else:
            base[key] = value


def _with_comments(text: str, own: str) -> str:
    """Rendered text with the head and the comments of the profile's own text in place of the base's."""
    head = [line for line in own.splitlines() if line.startswith("#")]
    comments = {place: comment for place, _, comment in _lines(own) if comment}
    lines = [text.splitlines()[0], *head]
    for place, body, comment in _lines(text):
        if len(place) == 1 and (body.endswith(":") or place == ("profile",)):
            lines.append("")
        comment = comments.get(place, comment)
        lines.append(f"{body:<{_COMMENT_COLUMN - 2}}  # {comment}" if comment else body)
    return "\n".join(lines) + "\n"


def _lines(text: str) -> Iterator[tuple[tuple[str, ...], str, str | None]]:
    """Place (key, or section and key), body and comment of every line that holds a key."""
    section = ""
    for line in text.splitlines():
        if found := _KEY.fullmatch(line):
            inner = found["indent"] is not None
            section = section if inner else found["key"]
            place = (section, found["key"]) if inner else (section,)
            yield place, found["body"], found["comment"]


def _yaml() -> YAML:
    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml
