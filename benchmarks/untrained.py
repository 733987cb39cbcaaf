"""Weights as they start: what a network costs does not depend on what it has learnt."""

from pathlib import Path

import torch
import torchvision

from stages._data.loss_weights import LPIPS_BACKBONE


def write_vgg(folder: Path) -> Path:
    """VGG-16 in the place where losses look for the backbone of LPIPS, which no package carries; gives `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.save(torchvision.models.vgg16().state_dict(), folder / LPIPS_BACKBONE)
    return folder
