"""A training stage sees the data sets that it names, by files that change when a store's content does."""

import json
from pathlib import Path

import pytest

from stages import gather_parts, offer_part
from stages._core.runtime import Runtime
from stages._core.stage import Paths
from stages._data.offers import offered_stores


def finished_store(path: Path, digest: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "digest.json").write_text(json.dumps({"digest": digest}))
    return path


def offer(root: Path, part: str, data_set: str, digest: str) -> Path:
    """Run the stage on one part's two stores."""
    stores = {kind: finished_store(root / part / kind, digest) for kind in ("views", "bodies")}
    inputs = Paths({f"stores.{kind}": path for kind, path in stores.items()})
    out = root / "images" / data_set / f"{part}.json"
    offer_part.run(offer_part.OfferPartParams(), inputs, Paths({"offer": out}), Runtime())
    return out


def gather(root: Path, data_set: str) -> Path:
    out = root / "training" / f"{data_set}.json"
    inputs = Paths({"offers": root / "images" / data_set})
    gather_parts.run(gather_parts.GatherPartsParams(), inputs, Paths({"offer": out}), Runtime())
    return out


def test_a_name_means_all_parts_in_order(tmp_path: Path) -> None:
    for part in ("mh-001", "mh-000"):
        offer(tmp_path, part, "mh", part)
    offer(tmp_path, "other", "other", "x")
    for name in ("mh", "other"):
        gather(tmp_path, name)
    stores = offered_stores(tmp_path / "training", ["other", "mh"])
    assert [s["bodies"] for s in stores] == [tmp_path / p / "bodies" for p in ("other", "mh-000", "mh-001")]
    assert len(offered_stores(tmp_path / "training", ["mh"])) == 2  # `other` lies there, but is not named


def test_the_bytes_follow_the_content_of_the_stores(tmp_path: Path) -> None:
    first = offer(tmp_path, "mh", "mh", "one").read_bytes()
    assert offer(tmp_path, "mh", "mh", "one").read_bytes() == first
    gathered = gather(tmp_path, "mh").read_bytes()
    assert offer(tmp_path, "mh", "mh", "two").read_bytes() != first
    assert gather(tmp_path, "mh").read_bytes() != gathered


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "images" / "mh").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="holds no offer"):
        gather(tmp_path, "mh")
    with pytest.raises(FileNotFoundError, match=r"mh\.json does not exist: the data set is not prepared"):
        offered_stores(tmp_path, ["mh"])
