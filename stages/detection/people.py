"""All people in sight, by the detector that MediaPipe's pose models start from.

Those models go on with the first person that it finds; this module runs it alone, which gives everybody.
"""

from dataclasses import dataclass
from types import TracebackType

import numpy as np

from stages.detection.holistic import quiet, to_square

INPUT_SIDE = 224
"""Pixels per side that the detector looks at."""

_GRAPH = """
input_stream: "image"
output_stream: "detections"
node { calculator: "PoseDetectionCpu" input_stream: "IMAGE:image" output_stream: "DETECTIONS:detections" }
"""


@dataclass(frozen=True)
class Figure:
    """A person, roughly.

    Attributes:
        hips, shoulders: (2,) their middles, px.
        reach: from the hips to the farthest point of the stretched body, px; about half a standing person.
    """

    hips: np.ndarray
    shoulders: np.ndarray
    reach: float


class PeopleDetector:
    """BlazePose's person detector; a context manager, because it holds a native graph.

    People of less than a quarter of the image's side, or whose heads overlap, may be missed.
    """

    def __enter__(self) -> "PeopleDetector":
        with quiet():
            from mediapipe.python.solution_base import SolutionBase  # a second; only detection needs it

            self._graph = SolutionBase(graph_config=_GRAPH, outputs=["detections"])
            self._graph.process(np.zeros((INPUT_SIDE, INPUT_SIDE, 3), np.uint8))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._graph.close()

    def find(self, rgb: np.ndarray) -> list[Figure]:
        """Everybody in an image (H, W, 3) uint8, in its pixels, surest first."""
        square, scale = to_square(rgb, INPUT_SIDE)
        with quiet():
            found = self._graph.process(square).detections or []
        figures = []
        for detection in found:
            points = detection.location_data.relative_keypoints  # hips, reach, shoulders, upper reach
            xy = np.array([(p.x, p.y) for p in points]) * square.shape[0] / scale
            figures.append(Figure(xy[0], xy[2], float(np.linalg.norm(xy[1] - xy[0]))))
        return figures
