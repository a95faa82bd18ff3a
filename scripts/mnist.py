"""MNIST's IDX files as tensors, without torchvision."""

from pathlib import Path

import torch
from idx import MEAN, STD, locate, read_split
from torch import Tensor

__all__ = ["load_split", "locate", "normalise"]


def load_split(folder: Path, train: bool) -> tuple[Tensor, Tensor]:
    """Reads the images, uint8 [N, 28, 28], and the labels, int64 [N], of a split from `folder`."""
    images, labels = read_split(folder, train)
    return torch.from_numpy(images), torch.from_numpy(labels).long()


def normalise(images: Tensor) -> Tensor:
    """What `ToTensor()` and `Normalize((0.1307,), (0.3081,))` make of images: float32 [N, 1, 28, 28]."""
    return ((images.float() / 255 - MEAN) / STD).unsqueeze(1)
