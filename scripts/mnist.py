"""MNIST's IDX files as tensors, without torchvision."""

from pathlib import Path

import torch
from idx import MEAN, STD, read_split
from torch import Tensor


def load_split(data: Path, dataset: str, train: bool) -> tuple[Tensor, Tensor]:
    """The images, uint8 [N, 28, 28], and the labels, int64 [N], of a split. Exits with a sentence if there are none."""
    images, labels = read_split(data, dataset, train)
    return torch.from_numpy(images), torch.from_numpy(labels).long()


def normalise(images: Tensor) -> Tensor:
    """What `ToTensor()` and `Normalize((0.1307,), (0.3081,))` make of images: float32 [N, 1, 28, 28]."""
    return ((images.float() / 255 - MEAN) / STD).unsqueeze(1)
