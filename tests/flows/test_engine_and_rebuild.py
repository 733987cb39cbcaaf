"""The DVC seam and the Prefect flow, on a three-stage graph in a real DVC repository."""

import subprocess
import sys
import textwrap

import pytest

from flows import engine

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


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    (tmp_path / "in.txt").write_text("1")
    (tmp_path / "fail.txt").write_text("0")
    init = [sys.executable, "-m", "dvc", "init", "--no-scm", "-q"]
    subprocess.run(init, cwd=tmp_path, env=engine.environment(), check=True)
    return tmp_path


@pytest.fixture(scope="module")
def prefect_server():
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=60):
        yield


def test_order_names_direct_dependencies(repository):
    assert engine.stage_order(repository) == [("a", []), ("b", ["a"]), ("c", ["b"]), ("d", ["a"])]


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
    with pytest.raises(engine.EngineError, match=r"failed: b; the rest was brought up to date"):
        rebuild(str(repository))
    assert (repository / "a.txt").read_text() == "2"
    assert (repository / "d.txt").exists()
    assert not engine.run_stage("d", repository).ran
