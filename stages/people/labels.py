"""CIHP's part labels that the generated people use (`dinar_models.labels.CLASSES` has all twenty)."""

from enum import IntEnum


class Part(IntEnum):
    """Class numbers; left and right are the person's own."""

    BACKGROUND = 0
    HAIR = 2
    UPPER_CLOTHES = 5
    DRESS = 6
    COAT = 7
    SOCKS = 8
    PANTS = 9
    TORSO_SKIN = 10
    SKIRT = 12
    FACE = 13
    LEFT_ARM = 14
    RIGHT_ARM = 15
    LEFT_LEG = 16
    RIGHT_LEG = 17
    LEFT_SHOE = 18
    RIGHT_SHOE = 19
