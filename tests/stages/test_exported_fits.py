"""What goes out comes in again, to the same numbers."""

import json
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
import smplx
import torch

from dinar_models.body import POSES, BodyModel, BodyParams
from stages._core.schemas import BODY_ARRAYS
from stages._core.store import open_store
from stages._data.exported_fits import Exported, export_fits
from stages.sources.body_tables import BodyTables
from stages.sources.fits import FitError, read_fit
from tests.stages.tiny_fits import SIDE, fit_lines, save_fits


@pytest.fixture
def tables(tiny_body: Path) -> BodyTables:
    return BodyTables.load(tiny_body)


@pytest.mark.parametrize("file_format", ["npz", "json"])
def test_scans_come_back_to_the_same_numbers(tables: BodyTables, tmp_path: Path, file_format: str) -> None:
    index = fit_lines(scan=["a0"] * 3 + ["b0"] * 3 + ["c0"] * 3, subject=["a"] * 3 + ["b"] * 3 + ["c"] * 3)
    index["view"], index["variant"] = [0, 1, 0] * 3, [0, 0, 1] * 3
    index.loc[[3, 6, 7, 8], "ok"], index.loc[[3, 6, 7, 8], "reason"] = False, "nobody"
    fits = save_fits(tmp_path, index, tables.digest)
    assert export_fits(fits, tmp_path / "out", file_format) == Exported(2, 1)  # type: ignore[arg-type]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"a0.{file_format}", f"b0.{file_format}"]
    bodies = open_store(fits.bodies, "bodies")
    for scan, row in (("a0", 0), ("b0", 4)):
        fit = read_fit(tmp_path / "out" / f"{scan}.{file_format}", tables)
        assert (len(fit), fit.exact, fit.frame) == (1, True, "ingested")
        for name, values in fit.at(0).items():
            np.testing.assert_array_equal(values, bodies[name][row])


def test_smplx_itself_makes_the_same_body_of_the_file(
    tables: BodyTables, tiny_body: Path, tmp_path: Path
) -> None:
    fits = save_fits(tmp_path, fit_lines(scan=["a0"], subject=["a"]), tables.digest)
    export_fits(fits, tmp_path / "out", "npz")
    with np.load(tmp_path / "out" / "a0.npz") as file:
        values = dict(file)
    model = smplx.create(
        str(tiny_body), "smplx", ext="npz", use_pca=False, flat_hand_mean=True, create_transl=False
    )
    given = {name: torch.from_numpy(values[name]).float() for name in (*POSES, "transl", "expression")}
    given["betas"] = torch.from_numpy(values["betas"])[None].float()
    made = model(**given).vertices * float(values["scale"][0, 0])
    bodies = open_store(fits.bodies, "bodies")
    params = BodyParams.from_dict({name: torch.from_numpy(bodies[name][:]) for name in BODY_ARRAYS})
    wanted = BodyModel.load(tiny_body)(params).vertices
    np.testing.assert_allclose(made.detach().numpy(), wanted.numpy(), atol=1e-5)
    np.testing.assert_array_equal(values["poses"], np.concatenate([values[name] for name in POSES], axis=1))
    views = open_store(fits.views, "views")
    assert (values["view"].tolist(), int(values["image_size"])) == ([0], SIDE)
    for name in ("K", "R", "T"):
        np.testing.assert_array_equal(values[name], views[name][:])
    assert (str(values["gender"]), str(values["verdict"])) == ("neutral", "plausible")


def test_a_video_is_one_sequence_with_its_rate(tables: BodyTables, tmp_path: Path) -> None:
    index = fit_lines(scan=["walk"] * 4, subject=["walk"] * 4, source="video")
    index["view"] = range(4)
    index.loc[2, ["ok", "reason"]] = False, "nobody"
    (tmp_path / "raw").mkdir()
    frames = [np.zeros((32, 32, 3), np.uint8)] * 4
    imageio.mimwrite(tmp_path / "raw" / "walk.mp4", frames, fps=24, macro_block_size=8)
    fits = save_fits(tmp_path, index, tables.digest)
    assert export_fits(fits, tmp_path / "out", "json") == Exported(1, 0)
    values = json.loads((tmp_path / "out" / "walk.json").read_text())
    assert values["mocap_frame_rate"] == 12  # every second frame was kept
    assert np.array(values["poses"]).shape == (4, 165)
    fit = read_fit(tmp_path / "out" / "walk.json", tables)
    bodies = open_store(fits.bodies, "bodies")
    np.testing.assert_array_equal(fit.at(3)["body_pose"], bodies["body_pose"][3])
    with pytest.raises(FitError, match="frame 2 was rejected"):
        fit.at(2)


def test_an_occupied_folder_is_left_alone(tables: BodyTables, tmp_path: Path) -> None:
    fits = save_fits(tmp_path, fit_lines(scan=["a0"], subject=["a"]), tables.digest)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is not empty; name another folder"):
        export_fits(fits, tmp_path / "out", "npz")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"
