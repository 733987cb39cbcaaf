"""One person's mask from probabilities: the largest connected person, and edges that follow those of the image."""

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

LINK_SHARE = 0.02
"""Pieces nearer than this share of the image belong to one person: a foot behind a pole, a hand."""

REFINE_REACH = 1 / 60
"""Radius of the guided filter as a share of the person's longer side."""

REFINE_EPSILON = 3e-5
"""Variance of colours in [0, 1] below which the guided filter sees no edge."""


def largest_person(probability: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """The probability inside the largest connected person, 0 elsewhere.

    Pieces above ½ that are closer than LINK_SHARE of the image are one.
    """
    reach = max(round(LINK_SHARE * max(probability.shape) / 2), 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    linked = cv2.dilate((probability > 0.5).astype(np.uint8), disc)
    count, label = cv2.connectedComponents(linked)
    if count < 2:
        return np.zeros_like(probability)
    sizes = np.bincount(label[probability > 0.5], minlength=count)
    sizes[0] = 0
    return np.where(label == sizes.argmax(), probability, 0).astype(np.float32)


def follow_edges(
    probability: Float32[np.ndarray, "h w"],
    rgb: UInt8[np.ndarray, "h w 3"],
    person: Float32[np.ndarray, "h w"] | None = None,
) -> Float32[np.ndarray, "h w"]:
    """The probability, filtered so that its edges lie where the image has some (guided filter, He et al., ECCV 2010).

    Soft masks of low resolution are smooth across outlines of hair, hands and shoes; locally fitted to the colours
    they become as sharp as the image. The filter's reach goes with the person's size.

    Args:
        person: where the person is, if it is not the probability that says so.
    """
    rows, columns = np.nonzero((probability if person is None else person) > 0.5)
    if not len(rows):
        return probability
    side = max(np.ptp(rows), np.ptp(columns)) + 1
    radius = max(round(side * REFINE_REACH), 1)
    # OpenCV takes ε in the guide's own units, here levels squared. A float guide in [0, 1] came out all but unguided.
    return cv2.ximgproc.guidedFilter(rgb, probability, radius, REFINE_EPSILON * 255**2).clip(0, 1)


def firm(probability: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Coverage from probability: none up to ¼, all from ¾, linear between.

    Where two opinions are nearly sure the person is opaque. Against the alpha of cut-outs the mean error fell from
    0.068 of the person's area to 0.036.
    """
    return np.clip(2 * probability - 0.5, 0, 1).astype(np.float32)
