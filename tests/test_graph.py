"""dvc.yaml is the only description of the graph, and it agrees with the code; pipelines/ablation stands beside it."""

import re
import shutil
from pathlib import Path

import pytest

from flows import graph
from stages._core.params import read_params


@pytest.mark.parametrize("path", graph.GRAPHS, ids=lambda path: path.parent.name)
def test_dependencies_params_and_outputs_are_those_of_the_code(path: Path):
    assert graph.mistakes(path, graph.GRAPHS[path]) == []


def test_a_forgotten_module_is_found(tmp_path):
    copy = tmp_path / "dvc.yaml"
    copy.write_text(graph.DVC_YAML.read_text().replace("        - stages/_core/store.py\n", "", 1))
    assert any("missing ['stages/_core/store.py']" in line for line in graph.mistakes(copy))


def test_sync_mends_what_check_finds(tmp_path):
    copy = tmp_path / "dvc.yaml"
    shutil.copy(graph.DVC_YAML, copy)
    assert graph.sync(copy) == 0
    copy.write_text(copy.read_text().replace("        - stages/_core/store.py\n", ""))
    assert graph.sync(copy) > 0
    assert graph.mistakes(copy) == []


def test_only_evaluate_reads_the_truth():
    readers = [e.name for e in graph.read_graph()[1] if any("truth" in p for p in e.paths("input").values())]
    assert readers == ["evaluate"]


@pytest.mark.parametrize("name", ["train_parser", "train_avatar", "train_vqgan", "train_diffusion"])
def test_training_never_sees_what_held_out_people_were_measured_with(name):
    entry = next(e for e in graph.read_graph()[1] if e.name == name)
    assert not {"bodies_single", "avatars", "renders"} & {k.split(".")[0] for k in entry.paths("input")}


@pytest.mark.parametrize(
    ("name", "kinds"),
    [("offer_images", {"views", "parsing", "bodies", "textures"}), ("offer_latents", {"latents"})],
)
def test_data_sets_offer_training_only_what_it_learns_from(name: str, kinds: set[str]):
    entry = next(e for e in graph.read_graph()[1] if e.name == name)
    assert {key.removeprefix("stores.") for key in entry.paths("input")} == kinds


@pytest.mark.parametrize("name", ["train_avatar", "train_vqgan", "finetune_avatar", "train_diffusion"])
def test_training_depends_on_the_offers_that_are_gathered_for_it(name: str):
    entries = graph.read_graph()[1]
    reads = next(e for e in entries if e.name == name).paths("input")["data"]
    (maker,) = [e for e in entries if e.paths("output").get("offer", "").startswith(f"{reads}/")]
    document, _ = graph.read_graph()
    assert document["stages"][maker.name]["foreach"] == f"${{{name}.datasets}}"


def ablation() -> list[graph.Entry]:
    return graph.read_graph(graph.ABLATION_YAML)[1]


def test_the_ablation_writes_only_where_nothing_else_does():
    outs = [path for entry in ablation() for path in entry.paths("output").values()]
    assert all(path.startswith(("data/ablation/", "data/reports/ablation.")) for path in outs)
    assert all("DINAR_RUNS=data/.runs/ablation" in entry.body["cmd"] for entry in ablation())


def test_the_ablation_renders_and_fits_nobody_and_sees_no_truth():
    makers = {"synthesize_people", "ingest", "render_views", "segment", "detect_keypoints", "fit_body"}
    assert not makers & {entry.module for entry in ablation()}
    read = {path for entry in ablation() for path in entry.paths("input").values()}
    assert not [path for path in read if "truth" in path]
    outer = {path for path in read if not path.startswith(("data/ablation/", "pipelines/"))}
    made = [path for entry in graph.read_graph()[1] for path in entry.paths("output").values()]
    assert outer <= {path.replace("${item}", "synthetic") for path in made}


@pytest.mark.parametrize("module", ["train_avatar", "train_vqgan", "finetune_avatar", "train_diffusion"])
def test_the_ablation_trains_on_offers_alone(module: str):
    entries = [e for e in ablation() if e.module == module]
    assert entries
    for entry in entries:
        read = {k: p for k, p in entry.paths("input").items() if k not in ("body", "avatar", "vqgan")}
        assert list(read) == ["data"]
        (maker,) = [
            e for e in ablation() if e.paths("output").get("offer", "").startswith(f"{read['data']}/")
        ]
        assert "single" not in " ".join(maker.paths("input").values())


def test_the_ablation_runs_every_case_that_it_has_and_no_other():
    """Each command reads the params of its own case."""
    cases = read_params(graph.ABLATION_YAML.parent / "params.yaml")["vary_params"]["cases"]
    document, entries = graph.read_graph(graph.ABLATION_YAML)
    named = set()
    for entry in entries:
        lists = dict(document["stages"][entry.name].get("matrix", {}))
        fixed = re.search(r"/params/\$\{item\.seed\}-(\w+)\.yaml", entry.body["cmd"])
        named |= {*lists.get("case", [])} | ({fixed[1]} if fixed else set())
    assert named == set(cases)
