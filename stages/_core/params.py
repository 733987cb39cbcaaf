"""params.yaml → typed, frozen sections: a wrong key, type or range is refused before anything runs."""

import difflib
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

P = TypeVar("P", bound="StageParams")


class ParamsError(ValueError):
    """params.yaml does not say what a stage needs; the text names the key, the value and what is allowed."""


class StageParams(BaseModel):
    """Base of every section. Fields named like a shared top-level key are filled from there."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SharedParams(StageParams):
    """The top-level keys that several stages share."""

    profile: str = Field(description="name of the profile that this file was made from")
    seed: int = Field(ge=0, description="every random draw derives from it")
    image_size: int = Field(
        ge=64, le=2048, multiple_of=16, description="pixels per side of the networks' images"
    )
    texture_size: int = Field(ge=32, le=1024, multiple_of=16, description="texels per side of a texture")


def read_params(path: Path) -> dict[str, Any]:
    """The whole file as plain values. Raises ParamsError when it is missing, not YAML or not a mapping."""
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ParamsError(f"{path} does not exist; make it with `dinar profile use demo`") from None
    except yaml.YAMLError as error:
        raise ParamsError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ParamsError(f"{path}: a mapping of sections is expected, got {type(values).__name__}")
    return values


def parse_section(cls: type[P], section: str, values: dict[str, Any]) -> P:
    """Validate one stage's section, with the shared keys that the class declares filled in.

    Raises:
        ParamsError: one line per mistake.
    """
    own = values.get(section, {})
    if own is None:
        own = {}
    if not isinstance(own, dict):
        raise ParamsError(f"{section}: a mapping is expected, got {own!r}")
    shared = {k: values[k] for k in SharedParams.model_fields if k in cls.model_fields and k in values}
    return _validate(cls, section, {**shared, **own})


def check_all(values: dict[str, Any], stages: dict[str, type[StageParams]]) -> None:
    """Validate every section and refuse unknown ones; all mistakes are reported at once."""
    mistakes: list[str] = []
    shared = {k: v for k, v in values.items() if k in SharedParams.model_fields}
    known = list(SharedParams.model_fields) + list(stages)
    mistakes += [
        f"{key}: unknown section or key{_suggestion(key, known)}" for key in values if key not in known
    ]
    sections: dict[str, type[StageParams]] = {"": SharedParams, **stages}
    for section, cls in sections.items():
        try:
            if section:
                parse_section(cls, section, values)
            else:
                _validate(SharedParams, "", shared)
        except ParamsError as error:
            mistakes.append(str(error))
    if mistakes:
        raise ParamsError("\n".join(dict.fromkeys("\n".join(mistakes).splitlines())))


def _validate(cls: type[P], section: str, values: dict[str, Any]) -> P:
    try:
        return cls.model_validate(values, strict=False)
    except ValidationError as error:
        raise ParamsError("\n".join(_sentence(cls, section, e) for e in error.errors())) from None


def _sentence(cls: type[StageParams], section: str, error: Any) -> str:
    """One mistake as `section.key: what came; what is allowed`."""
    key = ".".join(str(part) for part in error["loc"])
    name = f"{section}.{key}" if section else key
    if error["type"] == "extra_forbidden":
        return f"{name}: unknown key{_suggestion(key, list(cls.model_fields))}"
    if error["type"] == "missing":
        return f"{name}: missing; {_allowed(cls, error['loc'])}"
    return f"{name}: got {error['input']!r}; {error['msg']}; {_allowed(cls, error['loc'])}"


def _allowed(cls: type[StageParams], loc: tuple[int | str, ...]) -> str:
    field = cls.model_fields.get(str(loc[0])) if loc else None
    if field is None:
        return "see the profile files"
    limits = ", ".join(str(m) for m in field.metadata)
    kind = getattr(field.annotation, "__name__", None) or str(field.annotation).replace("typing.", "")
    return f"allowed: {kind}{f' ({limits})' if limits else ''}" + (
        f" – {field.description}" if field.description else ""
    )


def _suggestion(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"
