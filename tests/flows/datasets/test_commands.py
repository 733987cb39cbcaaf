"""Add, check, list and remove on real repositories, with scans in which nobody is found."""

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from flows import engine
from flows.datasets.add import Request, add_dataset, plan_update
from flows.datasets.catalog import (
    DatasetError,
    Places,
    add_to_training,
    load_enabled,
    make_card,
    save_enabled,
    write_cards,
)
from flows.datasets.listing import states
from flows.datasets.raw import list_samples, survey
from flows.datasets.remove import remove_dataset
from stages._core.runtime import Runtime
from tests.stages.raw_scans import write_box_scan


def add(places: Places, path: Path, runtime: Runtime, **more: object) -> tuple[bool, str]:
    """Add the data set `mine`; whether it was enabled, and what was said."""
    console = Console(file=io.StringIO(), width=200)
    request = Request("mine", path, {"adapter": "scans", "facing": "+z"}, **more)  # type: ignore[arg-type]
    done = add_dataset(places, request, runtime, console)
    return done, console.file.getvalue()  # type: ignore[attr-defined]


def enabled_by_hand(places: Places, parts: list[str]) -> None:
    """As if a check had passed."""
    card = make_card({"adapter": "scans", "path": "data/raw/mine", "licence": "CC0-1.0"})
    write_cards(places, "mine", card, parts)
    save_enabled(places.enabled, load_enabled(places.enabled).with_parts("scans", "mine", parts))


def dvc(places: Places, *arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=places.root, env=engine.environment(), capture_output=True, text=True)
    return done.stdout + done.stderr


def test_without_models_it_says_which_commands_make_them(
    places: Places, boxes: Path, runtime: Runtime
) -> None:
    before = places.enabled.read_text()
    done, said = add(places, boxes, runtime)
    assert not done
    assert (
        "data/models/parser, data/models/body missing: run `dvc repro train_parser build_body` first" in said
    )
    assert places.enabled.read_text() == before
    assert (places.root / "data/raw/mine.dvc").is_file()


@pytest.mark.usefixtures("models")
def test_a_data_set_that_fails_is_kept_with_its_reasons_and_nothing_else_is_touched(
    places: Places, boxes: Path, runtime: Runtime
) -> None:
    before = places.enabled.read_text(), places.params.read_text()
    done, said = add(places, boxes, runtime, train=True)
    assert not done
    assert "rejected: keypoints: no person was found" in said
    assert "the other samples were not tried" in said
    assert (places.enabled.read_text(), places.params.read_text()) == before
    assert places.report("mine").with_suffix(".png").is_file()
    state = next(s for s in states(places) if s.name == "mine")
    assert state.state.startswith("not enabled: detect_keypoints: every sample was rejected")
    assert state.raw_bytes > 0
    again, _ = add(places, boxes, runtime)  # resumes: the copy is there, every stage was finished
    assert not again
    remove_dataset(places, "mine", keep_raw=False, force=False)
    assert [s.name for s in states(places)] == ["synthetic"]
    left = {p for p in places.data.rglob("*mine*") if ".cache" not in p.parts}
    assert left == set()


def test_a_zip_that_unpacks_outside_is_refused(places: Places, tmp_path: Path, runtime: Runtime) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("a_1/a_1.obj", "v 0 0 0")
        archive.writestr("../../../evil.txt", "x")
    with pytest.raises(DatasetError, match="points outside"):
        add(places, tmp_path / "evil.zip", runtime)
    assert not list(tmp_path.rglob("evil.txt"))
    assert not places.card("mine").exists()
    assert not places.raw("mine").exists()


def test_what_cannot_be_done_is_one_sentence(places: Places, boxes: Path, runtime: Runtime) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        add(places, boxes / "nothing", runtime)
    (boxes.parent / "empty").mkdir()
    (boxes.parent / "empty/notes.txt").write_text("x")
    with pytest.raises(DatasetError, match="holds nothing that the adapter 'scans' reads"):
        add(places, boxes.parent / "empty", runtime)
    with pytest.raises(DatasetError, match="--link takes a folder"):
        add(places, boxes, runtime, link=True, part_size=1)
    write_box_scan(places.raw("mine"), "other")
    with pytest.raises(DatasetError, match="holds other files and has no card"):
        add(places, boxes, runtime)
    assert (places.raw("mine") / "other/other.obj").is_file()
    enabled_by_hand(places, ["mine"])
    with pytest.raises(DatasetError, match="is taken"):
        add(places, boxes, runtime)


def test_a_linked_data_set_is_a_dependency_that_dvc_sees_change(
    places: Places, boxes: Path, runtime: Runtime
) -> None:
    add(places, boxes, runtime, link=True)
    assert places.raw("mine").is_symlink()
    assert not (places.root / "data/raw/mine.dvc").exists()
    enabled_by_hand(places, ["mine"])
    graph = yaml.safe_load((places.root / "dvc.yaml").read_text())
    graph["stages"] = {"ingest": graph["stages"]["ingest"]}
    entry = graph["stages"]["ingest"]["do"]
    entry["cmd"] = "mkdir -p data/stores/${item} && ls data/raw/${item} > data/stores/${item}/scans"
    entry["deps"] = ["data/raw/${item}", "data/catalog/${item}.yaml"]
    del entry["params"]
    (places.root / "dvc.yaml").write_text(yaml.safe_dump(graph))
    assert "Running stage 'ingest@mine'" in dvc(places, "repro", "ingest@mine")
    assert engine.changed_stages(places.root).keys() == {"ingest@synthetic"}
    (boxes / "a_1" / "a_1.obj").write_text("v 1 1 1\n")
    assert "ingest@mine" in engine.changed_stages(places.root)
    remove_dataset(places, "mine", keep_raw=False, force=False)
    assert (boxes / "a_1" / "a_1.obj").is_file()
    assert "ingest@mine" not in (places.root / "dvc.lock").read_text()


def test_removing_asks_params_first(places: Places) -> None:
    before = places.enabled.read_text(), places.params.read_text()
    enabled_by_hand(places, ["mine-000", "mine-001"])
    add_to_training(places.params, "mine", "scans")
    with pytest.raises(DatasetError, match=r"names mine in train_avatar\.datasets, train_vqgan"):
        remove_dataset(places, "mine", keep_raw=False, force=False)
    gathered = places.data / "offers/train_avatar/mine.json"
    for path in (
        gathered,
        places.stores("mine-001") / "views/digest.json",
        places.raw("mine-000") / "a/a.obj",
    ):
        path.parent.mkdir(parents=True)
        path.write_text("{}")
    lock = places.root / "dvc.lock"
    lock.write_text(
        yaml.safe_dump({"schema": "2.0", "stages": {"ingest@mine-001": {"cmd": "x"}, "report": {}}})
    )
    remove_dataset(places, "mine", keep_raw=True, force=True)
    assert (places.enabled.read_text(), places.params.read_text()) == before
    assert not gathered.exists()
    assert not places.stores("mine-001").exists()
    assert (places.raw("mine-000") / "a/a.obj").is_file()
    assert [s.name for s in states(places)] == ["mine", "synthetic"]  # its card stays, the parts' are links
    assert list(yaml.safe_load(lock.read_text())["stages"]) == ["report"]
    with pytest.raises(DatasetError, match="synthetic is embedded"):
        remove_dataset(places, "synthetic", keep_raw=False, force=True)


def test_an_update_touches_only_the_parts_with_something_new(places: Places, tmp_path: Path) -> None:
    for part, names in (("mine-000", ["a_1", "b_1"]), ("mine-001", ["c_1"])):
        for name in names:
            write_box_scan(places.raw(part), name)
    card = make_card({"adapter": "scans", "path": "data/raw/mine", "licence": "CC0-1.0"})
    names = ["a_1", "a_2", "b_1", "c_1", "d_1", "e_1"]
    new = tmp_path / "new"
    for name in names:
        write_box_scan(new, name)

    def planned() -> dict[str, set[str]]:
        plan = plan_update(places, "mine", card, survey(new), list_samples(new, "scans"))
        return {part: {f.parts[0] for f in files} for part, files in plan.items()}

    # a_2 joins its subject; d fills the last part up to the first one's size; e begins a new part
    assert planned() == {"mine-000": {"a_2"}, "mine-001": {"d_1"}, "mine-002": {"e_1"}}
    (new / "c_1" / "c_1.obj").write_text("v 0 0 0\n")
    assert planned()["mine-001"] == {"c_1", "d_1"}
    for name in ("a_2", "d_1", "e_1"):
        write_box_scan(places.raw("mine-001"), name)
    assert planned() == {"mine-001": {"c_1"}}
