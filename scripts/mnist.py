"""MNIST's IDX files as tensors, without torchvision."""

import gzip
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def load_split(folder: Path, train: bool) -> tuple[Tensor, Tensor]:
    """Reads the images, uint8 [N, 28, 28], and the labels, int64 [N], of a split from `folder`."""
    prefix = "train" if train else "t10k"
    images = read_idx(folder / f"{prefix}-images-idx3-ubyte", header=16)
    labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte", header=8)
    return images.view(-1, 28, 28), labels.long()


def read_idx(path: Path, header: int) -> Tensor:
    """The bytes of an IDX file after its header, from the file or from its gzipped form."""
    packed = path.with_name(path.name + ".gz")
    use_packed = packed.exists() and not path.exists()
    data = gzip.decompress(packed.read_bytes()) if use_packed else path.read_bytes()
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=header).copy())


def normalise(images: Tensor) -> Tensor:
    """What `ToTensor()` and `Normalize((0.1307,), (0.3081,))` make of images: float32 [N, 1, 28, 28]."""
    return ((images.float() / 255 - 0.1307) / 0.3081).unsqueeze(1)


def locate(folder: Path, dataset: str) -> Path:
    """The folder that holds the four files: `folder` itself, or the one below it named after the dataset."""
    return folder / dataset if (folder / dataset).is_dir() else folder
