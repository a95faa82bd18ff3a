"""MNIST's IDX files as tensors, without torchvision."""

import gzip
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

SPLITS = ["train", "t10k"]
KINDS = ["images-idx3", "labels-idx1"]


def load_split(folder: Path, train: bool) -> tuple[Tensor, Tensor]:
    """Reads the images, uint8 [N, 28, 28], and the labels, int64 [N], of a split from `folder`."""
    images, labels = (folder / f"{SPLITS[0 if train else 1]}-{kind}-ubyte" for kind in KINDS)
    images, labels = read_idx(images, header=16), read_idx(labels, header=8)
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
    """The folder with the four files, by the program's rule: `folder` if it holds one, else the dataset's below it."""
    names = [f"{split}-{kind}-ubyte{gz}" for split in SPLITS for kind in KINDS for gz in ["", ".gz"]]
    return folder if any((folder / name).exists() for name in names) else folder / dataset
