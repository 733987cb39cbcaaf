"""Memory that was freed is used again without asking the kernel."""

import subprocess
import sys

import pytest

from stages._core.memory import keep_freed_memory

FAULTS_OF_THE_SECOND_BLOCK = """
import resource, sys
import numpy as np
from stages._core.memory import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(64 << 20, np.uint8)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_a_second_large_block_costs_no_page_faults() -> None:
    """64 MiB are 16,384 pages of 4 KiB; the first time each is a fault."""
    faults = {
        how: int(subprocess.check_output([sys.executable, "-c", FAULTS_OF_THE_SECOND_BLOCK, how]))
        for how in ("keep", "default")
    }
    assert faults["keep"] < 100 < faults["default"]


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: None) -> object:
        return object()

    monkeypatch.setattr("ctypes.CDLL", none)
    keep_freed_memory()
