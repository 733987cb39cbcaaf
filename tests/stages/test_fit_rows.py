"""Which rows are fitted alone or together."""

import numpy as np
import pandas as pd
import pytest

from stages._data.fit_rows import fitted_alone, scan_length, windows


def test_every_scan_must_have_as_many_rows() -> None:
    assert scan_length(pd.DataFrame({"scan": ["a"] * 6 + ["b"] * 6})) == 6
    with pytest.raises(ValueError, match=r"rows each; one length is expected"):
        scan_length(pd.DataFrame({"scan": ["a"] * 6 + ["b"] * 5}))


@pytest.mark.parametrize(("source", "alone"), [("scans", False), ("photos", True), ("video", True)])
def test_photos_and_frames_are_fitted_alone(source: str, alone: bool) -> None:
    assert fitted_alone(pd.DataFrame({"source": [source] * 2})) is alone


def test_windows_hold_frames_of_one_video_and_single_photos() -> None:
    frames = pd.DataFrame({"scan": ["a"] * 66 + ["b"] * 3, "source": "video"})
    assert np.diff(windows(frames)).nonzero()[0].tolist() == [63, 65]
    photos = pd.DataFrame({"scan": ["a", "a", "b"], "source": "photos"})
    assert len(set(windows(photos).tolist())) == 3
