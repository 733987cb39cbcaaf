"""A wrong key, type or range is refused, naming the key, the value and what is allowed."""

import pytest
from pydantic import Field

from stages._core.params import ParamsError, StageParams, check_all, parse_section


class BakeParams(StageParams):
    seed: int
    rate: float = Field(0.5, gt=0, le=1, description="share of the dough")


SHARED = {"profile": "tiny", "seed": 3, "image_size": 128, "texture_size": 64}


def test_shared_keys_fill_fields_of_the_same_name():
    assert parse_section(BakeParams, "bake", SHARED).seed == 3
    assert parse_section(BakeParams, "bake", {**SHARED, "bake": {"seed": 9}}).seed == 9


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"rtae": 0.1}, ["bake.rtae", "did you mean rate?"]),
        ({"rate": "often"}, ["bake.rate", "'often'", "float"]),
        ({"rate": 1.5}, ["bake.rate", "1.5", "less than or equal to 1"]),
    ],
)
def test_a_mistake_names_key_value_and_what_is_allowed(section, words):
    with pytest.raises(ParamsError) as error:
        check_all({**SHARED, "bake": section}, {"bake": BakeParams})
    for word in words:
        assert word in str(error.value)


def test_all_mistakes_are_reported_at_once():
    with pytest.raises(ParamsError) as error:
        check_all({**SHARED, "image_size": 100, "bakke": {}, "bake": {"rate": 0}}, {"bake": BakeParams})
    assert "image_size: got 100" in str(error.value)
    assert "bakke: unknown section or key; did you mean bake?" in str(error.value)
    assert "bake.rate: got 0" in str(error.value)
