"""MNIST's IDX files as NumPy arrays, also for a Python without PyTorch."""

import gzip
import sys
from pathlib import Path

import numpy as np

SPLITS = ["train", "t10k"]
KINDS = ["images-idx3", "labels-idx1"]

# What `Normalize((0.1307,), (0.3081,))` takes off each pixel of 0 to 1, and divides by.
MEAN, STD = 0.1307, 0.3081


def read_split(data: Path, dataset: str, train: bool) -> tuple[np.ndarray, np.ndarray]:
    """The images, uint8 [N, 28, 28], and the labels, uint8 [N], of a split. Exits with a sentence if there are none."""
    folder = locate(data, dataset)
    images, labels = (folder / f"{SPLITS[0 if train else 1]}-{kind}-ubyte" for kind in KINDS)
    try:
        return read_idx(images, header=16).reshape(-1, 28, 28), read_idx(labels, header=8)
    except FileNotFoundError as error:
        sys.exit(f"error: {error.filename} is missing: run scripts/setup --dataset {dataset}, or give --data DIR")


def read_idx(path: Path, header: int) -> np.ndarray:
    """The bytes of an IDX file after its header, from the file or from its gzipped form."""
    packed = path.with_name(path.name + ".gz")
    use_packed = packed.exists() and not path.exists()
    data = gzip.decompress(packed.read_bytes()) if use_packed else path.read_bytes()
    return np.frombuffer(data, np.uint8, offset=header).copy()


def normalise(images: np.ndarray) -> np.ndarray:
    """What `ToTensor()` and `Normalize((0.1307,), (0.3081,))` make of images: float32 [N, 1, 28, 28]."""
    return (((images.astype(np.float32) / 255) - np.float32(MEAN)) / np.float32(STD))[:, None]


def locate(folder: Path, dataset: str) -> Path:
    """The folder with the four files, by the program's rule: `folder` if it holds one, else the dataset's below it."""
    names = [f"{split}-{kind}-ubyte{gz}" for split in SPLITS for kind in KINDS for gz in ["", ".gz"]]
    return folder if any((folder / name).exists() for name in names) else folder / dataset
