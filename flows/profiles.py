"""Profiles: `demo` is the commented base, the others change some of its values."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
PROFILES = ROOT / "profiles"
PARAMS = ROOT / "params.yaml"
BASE = "demo"


class ProfileError(ValueError):
    """An unknown profile, or local edits that would be lost."""


def profile_names() -> list[str]:
    """All profiles, the base first."""
    return sorted((p.stem for p in PROFILES.glob("*.yaml")), key=lambda name: (name != BASE, name))


def render_profile(name: str) -> str:
    """The text of params.yaml for a profile: the base with its comments and the profile's values."""
    import io

    if name not in profile_names():
        raise ProfileError(f"no profile {name!r}; there are {', '.join(profile_names())}")
    yaml = _yaml()
    document = yaml.load((PROFILES / f"{BASE}.yaml").read_text())
    if name != BASE:
        _merge(document, yaml.load((PROFILES / f"{name}.yaml").read_text()), name)
    buffer = io.StringIO()
    yaml.dump(document, buffer)
    return buffer.getvalue()


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


def _yaml() -> YAML:
    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml
