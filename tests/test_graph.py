"""dvc.yaml is the only description of the graph, and it agrees with the code."""

import shutil

import pytest

from flows import graph


def test_dependencies_params_and_outputs_are_those_of_the_code():
    assert graph.mistakes() == []


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
