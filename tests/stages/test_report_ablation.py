"""The ablation's page: means, spreads and directions known by hand, pictures of every row and prior."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from stages import report_ablation as stage
from stages._core.runtime import Runtime
from stages._core.stage import Paths
from stages.reporting.ablation import METRICS, PRIORS, ROWS, Mean, difference, direction
from tests.stages.conftest import Measured
from tests.stages.tiny_world import IMAGE

SEEDS = [1, 2]
PSNR = {"rgb": 20.0, "neural": 21.0, "both": 23.0, "inpainting": 22.0}
"""Of the first seed; the second has half a dB more, but neural a whole one. Others have 24."""


def metrics(case: str, seed: int) -> dict:
    shift = 0.0 if seed == 1 else 1.0 if case == "neural" else 0.5
    same = {"psnr": PSNR.get(case, 24.0) + shift, "ms_ssim": 0.9, "perceptual": 0.1}
    novel = {"psnr": 18.0, "ms_ssim": 0.8, "perceptual": 0.2, "kid_effnet": 0.01 * seed}
    baselines = {"mirror": {**novel, "perceptual": 0.15}, "mean_fill": {**novel, "perceptual": 0.16}}
    return {"same_view": same, "novel_view": novel, "baselines": baselines}


@pytest.fixture(scope="module")
def made(measured: Measured, tmp_path_factory: pytest.TempPathFactory) -> Paths:
    root = tmp_path_factory.mktemp("ablation")
    for case in {row.case for row in ROWS} | {prior.case for prior in PRIORS}:
        for seed in SEEDS:
            folder = root / "measured" / f"{seed}-{case}"
            folder.mkdir(parents=True)
            (folder / "metrics.json").write_text(json.dumps(metrics(case, seed)))
            (folder / "renders").symlink_to(measured.outputs["renders"])
    for case in {prior.case for prior in PRIORS if prior.draws}:
        for seed in SEEDS:
            folder = root / "draws" / f"{seed}-{case}"
            folder.mkdir(parents=True)
            spread = 0.0 if case == "regression" else 0.1 * seed
            table = {"people": 1, "draws": 2, "perceptual": spread, "colour": spread}
            (folder / "diversity.json").write_text(json.dumps(table))
            Image.new("RGB", (2 * IMAGE, IMAGE)).save(folder / "d.png")
    inputs = Paths({"measured": root / "measured", "draws": root / "draws"})
    outputs = Paths({"page": root / "ablation.html", "table": root / "ablation.json"})
    stage.STAGE.check_paths(inputs, outputs)
    stage.run(stage.ReportAblationParams(seeds=SEEDS, people=2), inputs, outputs, Runtime())
    return outputs


@pytest.fixture(scope="module")
def cells(made: Paths) -> dict[str, list[str]]:
    """Every line of every table by its first cell."""
    rows = re.findall(r"<tr>(.*?)</tr>", made["page"].read_text(), re.DOTALL)
    return {line[0]: line[1:] for row in rows if (line := re.findall(r"<td[^>]*>(.*?)</td>", row))}


def test_table_2_has_ours_with_spreads_beside_the_papers(cells: dict) -> None:
    assert cells["RGB texture"][:6] == ["0.9 ± 0", "20.25 ± 0.4", "0.1 ± 0", "0.8825", "22.8", "0.1204"]
    assert cells["Neural texture"][1] == "21.5 ± 0.7"
    assert cells["Both textures"][6:] == ["0.8 ± 0", "18 ± 0", "0.2 ± 0"]
    assert len([title for title in cells if title in {row.title for row in ROWS}]) == 6


def test_each_step_is_paired_by_seed_and_has_a_direction(cells: dict) -> None:
    """Both rows gain half a dB with the second seed: their difference has no spread."""
    line = cells["RGB texture → Both textures"]
    assert line[3:6] == ["3 ± 0", "+1.3000", "as in the paper"]
    assert line[2] == "undecided"  # MS-SSIM does not move at all
    assert cells["Neural texture → Both textures"][3] == "1.75 ± 0.4"
    assert cells["Both textures → Both + inpainting"][5] == "the other way"


def test_priors_stand_beside_the_fillings_which_draw_nothing(cells: dict) -> None:
    assert cells["mirror"] == ["0.15 ± 0", "18 ± 0", "0.8 ± 0", "0.015 ± 0.007", "0", "0"]
    assert cells["diffusion, as in the pipeline"][4:] == ["0.15 ± 0.07", "0.15 ± 0.07"]
    assert cells["deterministic U-Net, same pairs"][4:] == ["0 ± 0", "0 ± 0"]


def test_the_table_for_machines_says_the_same(made: Paths) -> None:
    table = json.loads(made["table"].read_text())
    assert set(table["rows"]) == {row.case for row in ROWS}
    assert table["rows"]["rgb"]["same_view"]["psnr"] == pytest.approx({"mean": 20.25, "spread": 0.125**0.5})
    assert table["priors"]["tuning.mirror"]["novel_view"]["perceptual"]["mean"] == pytest.approx(0.15)
    assert table["priors"]["tuning.mirror"]["diversity"]["colour"] == {"mean": 0.0, "spread": None}


def test_pictures_of_test_people_and_nothing_from_elsewhere(made: Paths) -> None:
    page = made["page"].read_text()
    assert all(uri.startswith(("data:", "#")) for uri in re.findall(r'(?:src|href)="([^"]*)"', page))
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    assert captions == ["d", "d", *(prior.title for prior in PRIORS if prior.draws)]


def test_means_need_every_seed() -> None:
    assert Mean.of([1.0, 2.0]) == Mean(1.5, pytest.approx(0.5**0.5))
    assert Mean.of([1.0]) == Mean(1.0, None)
    assert str(Mean.of([1.0, None])) == "–"
    assert str(Mean.of([])) == "–"


@pytest.mark.parametrize(
    ("mine", "paper", "word"),
    [
        (Mean(0.2, 0.1), 1.0, "as in the paper"),
        (Mean(-0.2, 0.1), 1.0, "the other way"),
        (Mean(-0.2, 0.1), -1.0, "as in the paper"),
        (Mean(0.1, 0.1), 1.0, "undecided"),
        (Mean(0.1, None), 1.0, "as in the paper"),
        (Mean(None), 1.0, "undecided"),
    ],
)
def test_a_change_within_the_spread_decides_nothing(mine: Mean, paper: float, word: str) -> None:
    assert direction(mine, paper) == word


def test_a_missing_view_has_no_difference() -> None:
    empty = {"same_view": None, "novel_view": None, "baselines": None}
    assert difference([empty], [metrics("rgb", 1)], "psnr") == Mean(None)


def test_the_papers_rows_are_in_its_order() -> None:
    """Its PSNR grows row by row; lower LPIPS is better, and the detector alone made it no better."""
    psnr = [row.paper[METRICS.index("psnr")] for row in ROWS]
    assert psnr == sorted(psnr)
    assert np.argmin([row.paper[METRICS.index("perceptual")] for row in ROWS]) == 5
