"""Logging of a stage: one line a message, to stderr; noisy libraries kept quiet."""

import logging
import os
import warnings


def set_up_logging(level: int = logging.INFO) -> None:
    """Call once per process, before libraries log."""
    os.environ.setdefault("GLOG_minloglevel", "3")  # MediaPipe
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    logging.basicConfig(level=level, format="%(message)s", force=True)
    for name in (
        "absl",
        "distributed",
        "matplotlib",
        "PIL",
        "numba",
        "fsspec",
        "asyncio",
        "httpx",
        "dvclive",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
