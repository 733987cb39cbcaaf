"""How much memory a process has had."""

import re
from pathlib import Path

STATUS = Path("/proc/self/status")


def own_peak_mib() -> float:
    """Most resident memory of this program so far, MiB (Linux).

    Not `getrusage`: what it tells of a program begins with the peak of the process that started it.
    """
    found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
    if not found:
        raise OSError(f"{STATUS} does not tell VmHWM")
    return int(found[1]) / 1024
