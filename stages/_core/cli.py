"""`python -m stages.NAME --input a=… --output b=…`: one entry for every stage."""

import argparse
import importlib
import json
import logging
import platform
import resource
import sys
import time
from pathlib import Path

from stages._core import torchrun
from stages._core.logs import set_up_logging
from stages._core.params import ParamsError, parse_section, read_params
from stages._core.publish import write_file
from stages._core.runtime import Runtime
from stages._core.stage import Paths, Stage, Summary

log = logging.getLogger(__name__)

USER_ERRORS = (ParamsError, ValueError, FileNotFoundError, RuntimeError)


def main(stage: Stage, argv: list[str] | None = None) -> None:
    """Parse paths, read the stage's section, run, keep the provenance; one message and code 1 on error."""
    if stage.run.__module__ == "__main__":  # workers can import stages.NAME, but no __main__ of ours
        stage = importlib.import_module(f"stages.{stage.name}").STAGE
    arguments = _parser(stage).parse_args(argv)
    level = logging.DEBUG if arguments.debug else logging.INFO
    set_up_logging(level if torchrun.rank() == 0 else logging.WARNING)
    try:
        inputs, outputs = _paths(arguments.input), _paths(arguments.output)
        run_stage(stage, Path(arguments.params), inputs, outputs, Runtime.from_environment())
    except USER_ERRORS as error:
        if arguments.debug:
            raise
        log.error("%s failed: %s: %s (--debug shows where)", stage.name, type(error).__name__, error)
        sys.exit(1)


def run_stage(stage: Stage, params_file: Path, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """What the command line, the flows and the tests share."""
    stage.check_paths(inputs, outputs)
    if torchrun.world() > 1 and not stage.trains:
        raise ValueError("it runs in one process; start it without torchrun")
    params = parse_section(stage.params, stage.name, read_params(params_file))
    start = time.monotonic()
    with torchrun.process_group(runtime.device):
        summary = stage.run(params, inputs, outputs, runtime)
    seconds = time.monotonic() - start
    if torchrun.rank() == 0:
        _keep_provenance(stage, inputs, outputs, summary, seconds, runtime)
    log.info("%s: %s in %.1f s", stage.name, _words(summary), seconds)
    return summary


def _parser(stage: Stage) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m stages.{stage.name}",
        description=(sys.modules[stage.run.__module__].__doc__ or "").strip(),
        epilog=f"inputs: {', '.join(stage.inputs) or 'none'}; outputs: {', '.join(stage.outputs)}",
    )
    parser.add_argument("--input", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--output", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--params", default="params.yaml", help="file with one section per stage")
    parser.add_argument("--debug", action="store_true", help="show tracebacks and debug messages")
    return parser


def _paths(pairs: list[str]) -> Paths:
    paths: dict[str, str] = {}
    for pair in pairs:
        name, separator, path = pair.partition("=")
        if not separator or not name or not path:
            raise ValueError(f"{pair!r}: NAME=PATH is expected")
        paths[name] = path
    return Paths(paths)


def _keep_provenance(
    stage: Stage, inputs: Paths, outputs: Paths, summary: Summary, seconds: float, runtime: Runtime
) -> None:
    """Times, versions and memory of this run, outside the outputs so that these stay reproducible."""
    record = {
        "stage": stage.name,
        "inputs": {k: str(v) for k, v in inputs.items()},
        "outputs": {k: str(v) for k, v in outputs.items()},
        "summary": summary,
        "seconds": round(seconds, 1),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "peak_mib": _peak_mib(),
        "workers": runtime.workers,
        "processes": torchrun.world(),
        "scheduler": runtime.scheduler,
        "device": runtime.device,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    item = next((f"@{p.parent.name}" for p in outputs.values() if p.parent.parent.name == "stores"), "")
    write_file(
        runtime.runs_root / f"{stage.name}{item}.json", json.dumps(record, indent=1, default=str) + "\n"
    )


def _peak_mib() -> int:
    """Peak resident memory of this process plus the largest of its workers, MiB (Linux counts KiB)."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return (own + children) // 1024


def _words(summary: Summary) -> str:
    return ", ".join(f"{k} {v}" for k, v in summary.items() if not isinstance(v, dict | list)) or "done"
