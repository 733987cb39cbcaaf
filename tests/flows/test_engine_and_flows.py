"""The DVC seam and the Prefect flows, on small graphs in real DVC repositories."""

import importlib
import inspect
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

from flows import engine
from flows.champion import WEIGHTS, read_champion

DVC_YAML = textwrap.dedent("""
    stages:
      a:
        cmd: python -c "open('a.txt', 'w').write(open('in.txt').read())"
        deps: [in.txt]
        outs: [a.txt]
      b:
        cmd: python -c "import sys; open('b.txt', 'w').write('b'); sys.exit(int(open('fail.txt').read()))"
        deps: [a.txt, fail.txt]
        outs: [b.txt]
      c:
        cmd: python -c "open('c.txt', 'w').write('c')"
        deps: [b.txt]
        outs: [c.txt]
      d:
        cmd: python -c "open('d.txt', 'w').write('d')"
        deps: [a.txt]
        outs: [d.txt]
""")

TRAINING = textwrap.dedent("""
    import json, pathlib
    perceptual = pathlib.Path("quality.txt").read_text()
    for name in {weights}:
        folder = pathlib.Path("data/models", name)
        folder.mkdir(parents=True)
        (folder / "net.bin").write_text(perceptual)
    gate = {{"novel_view": {{"perceptual": float(perceptual)}}, "same_view": {{"psnr": 25.0}}}}
    pathlib.Path("data/reports").mkdir(parents=True, exist_ok=True)
    pathlib.Path("data/reports/gate.json").write_text(json.dumps(gate))
""").format(weights=WEIGHTS)
"""Writes a candidate as good as quality.txt says; a word instead of a number makes it fail half-way."""


def initialised(root: Path) -> Path:
    init = [sys.executable, "-m", "dvc", "init", "--no-scm", "-q"]
    subprocess.run(init, cwd=root, env=engine.environment(), check=True)
    return root


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    (tmp_path / "in.txt").write_text("1")
    (tmp_path / "fail.txt").write_text("0")
    return initialised(tmp_path)


@pytest.fixture
def trainable(tmp_path):
    """A repository whose only stage makes all weights and the gate's table."""
    outs = [*(f"data/models/{name}" for name in WEIGHTS), "data/reports/gate.json"]
    stage = {"cmd": "python train.py", "deps": ["quality.txt"], "outs": outs}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"train": stage}}))
    (tmp_path / "train.py").write_text(TRAINING)
    return initialised(tmp_path)


@pytest.fixture(scope="module")
def prefect_server():
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=60):
        yield


def test_order_names_direct_dependencies(repository):
    assert engine.stage_order(repository) == [("a", []), ("b", ["a"]), ("c", ["b"]), ("d", ["a"])]


def test_graphs_beside_the_main_one_run_only_when_they_are_asked_for(repository):
    """One that reads what the main graph makes is nobody's business but its own."""
    beside = repository / "pipelines/extra"
    beside.mkdir(parents=True)
    stage = {"wdir": "../..", "cmd": "cp a.txt e.txt", "deps": ["a.txt"], "outs": ["e.txt"]}
    (beside / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"a": stage}}))
    order = engine.stage_order(repository)
    assert order == [("a", []), ("b", ["a"]), ("c", ["b"]), ("d", ["a"])]
    for name, _ in order:
        engine.run_stage(name, repository)
    assert engine.changed_stages(repository) == {}
    assert not (repository / "e.txt").exists()


def test_a_stage_runs_once_and_reports_its_last_lines_when_it_fails(repository):
    assert engine.run_stage("a", repository).ran
    assert not engine.run_stage("a", repository).ran
    (repository / "fail.txt").write_text("3")
    with pytest.raises(engine.EngineError, match="b failed"):
        engine.run_stage("b", repository)


@pytest.mark.filterwarnings("ignore")  # Prefect's own server warns on shutdown
@pytest.mark.timeout(240)
def test_rebuild_shows_what_is_up_to_date_and_goes_on_beside_a_failure(repository, prefect_server):
    from flows.rebuild import rebuild

    assert set(rebuild(str(repository)).values()) == {"Rebuilt"}
    assert set(rebuild(str(repository)).values()) == {"UpToDate"}
    (repository / "in.txt").write_text("2")
    (repository / "fail.txt").write_text("1")
    with pytest.raises(
        engine.EngineError, match=r"failed: b; not run, as they depend on it: c; the rest was"
    ):
        rebuild(str(repository))
    assert (repository / "a.txt").read_text() == "2"
    assert (repository / "d.txt").exists()
    assert not engine.run_stage("d", repository).ran


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(240)
def test_a_failing_data_set_stops_training_that_names_it_and_nothing_else(tmp_path, prefect_server):
    from flows.rebuild import rebuild

    offers = {"cmd": "cp raw/${item} offers/${item}", "deps": ["raw/${item}"], "outs": ["offers/${item}"]}
    stages = {"offer": {"foreach": ["bad", "good", "other"], "do": offers}}
    for name, datasets in (("both", ["bad", "good"]), ("one", ["good"])):
        gather = {"cmd": f"cp offers/${{item}} {name}/${{item}}"}
        gather |= {"deps": ["offers/${item}"], "outs": [f"{name}/${{item}}"]}
        stages[f"gather_{name}"] = {"foreach": datasets, "do": gather}
        stages[f"train_{name}"] = {"cmd": f"ls {name} > {name}.txt", "deps": [name], "outs": [f"{name}.txt"]}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    for folder in ("raw", "offers", "both", "one"):
        (tmp_path / folder).mkdir()
    for name in ("good", "other"):
        (tmp_path / "raw" / name).write_text(name)
    initialised(tmp_path)
    with pytest.raises(
        engine.EngineError, match=r"failed: offer@bad; not run.*: gather_both@bad, train_both;"
    ):
        rebuild(str(tmp_path))
    assert (tmp_path / "one.txt").read_text() == "good\n"
    assert (tmp_path / "offers/other").exists()
    assert not (tmp_path / "both.txt").exists()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(240)
def test_retrain_promotes_or_keeps_and_a_failing_run_leaves_the_champion(trainable, prefect_server):
    from flows.retrain import retrain

    models = trainable / "data/models"

    def attempt(quality: str):
        (trainable / "quality.txt").write_text(quality)
        return retrain(margin=0.1, root=str(trainable))

    assert attempt("1.0").reason.startswith("first champion")
    record = (models / "champion.json").read_bytes()
    with pytest.raises(engine.EngineError, match="failed: train"):
        attempt("broken")
    assert (models / "champion.json").read_bytes() == record
    assert (models / "champion/diffusion/net.bin").read_text() == "1.0"
    assert not attempt("0.95").promote
    assert (models / "champion/diffusion/net.bin").read_text() == "1.0"
    kept = read_champion(models)
    assert kept["champion"]["gate"]["novel_view"]["perceptual"] == 1.0
    assert kept["candidate"]["gate"]["novel_view"]["perceptual"] == 0.95
    assert "below 0.9 is needed" in kept["decision"]["reason"]


def test_the_deployments_name_flows_that_exist_with_parameters_that_they_take():
    deployments = yaml.safe_load((engine.ROOT / "flows/prefect.yaml").read_text())["deployments"]
    assert [d["name"] for d in deployments if d.get("schedules")] == ["nightly"]
    for deployment in deployments:
        file, name = deployment["entrypoint"].split(":")
        flow = getattr(importlib.import_module(file.removesuffix(".py").replace("/", ".")), name)
        assert set(deployment.get("parameters", {})) <= set(inspect.signature(flow.fn).parameters)
