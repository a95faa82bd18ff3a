"""MNIST in the forms in which other people have it, each written by the library that it comes from."""

import csv
import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from conftest import DATA
from PIL import Image

NAMES = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]
TRAIN, TEST = 600, 200


def idx(name: str) -> bytes:
    """The first images or labels of a published file, as an IDX file."""
    count = TRAIN if name.startswith("train") else TEST
    body = (DATA / "mnist" / name).read_bytes()
    if "images" in name:
        return struct.pack(">4I", 2051, count, 28, 28) + body[16 : 16 + 784 * count]
    return struct.pack(">2I", 2049, count) + body[8 : 8 + count]


def arrays(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images [N, 28, 28] and labels [N] of `train` or `t10k`."""
    images = np.frombuffer(idx(f"{part}-images-idx3-ubyte")[16:], np.uint8).reshape(-1, 28, 28)
    return images, np.frombuffer(idx(f"{part}-labels-idx1-ubyte")[8:], np.uint8)


def write_csv(path: Path, images: np.ndarray, labels: np.ndarray | None, header: bool = True) -> None:
    """Kaggle's form."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        names = [f"pixel{k}" for k in range(784)]
        if header:
            writer.writerow(names if labels is None else ["label", *names])
        for k, pixels in enumerate(images.reshape(len(images), 784).tolist()):
            writer.writerow(pixels if labels is None else [labels[k], *pixels])


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def write_parquet(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Hugging Face's form."""
    pictures = [{"bytes": png(image), "path": None} for image in images]
    pq.write_table(pa.table({"image": pictures, "label": pa.array(labels.astype(int).tolist(), pa.int64())}), path)


def write_pictures(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """A subfolder per class."""
    for k, (image, label) in enumerate(zip(images, labels, strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        (folder / str(label) / f"{k:05}.png").write_bytes(png(image))


def kaggle(folder: Path) -> None:
    folder.mkdir()
    write_csv(folder / "mnist_train.csv", *arrays("train"))
    write_csv(folder / "mnist_test.csv", *arrays("t10k"), header=False)


def keras(folder: Path) -> None:
    folder.mkdir()
    (x_train, y_train), (x_test, y_test) = arrays("train"), arrays("t10k")
    np.savez_compressed(folder / "mnist.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)


def hugging_face(folder: Path) -> None:
    folder.mkdir()
    images, labels = arrays("train")
    write_parquet(folder / "train-00000-of-00002.parquet", images[:400], labels[:400])
    write_parquet(folder / "train-00001-of-00002.parquet", images[400:], labels[400:])
    write_parquet(folder / "test-00000-of-00001.parquet", *arrays("t10k"))


def torchvision(folder: Path) -> None:
    raw = folder / "MNIST/raw"
    raw.mkdir(parents=True)
    for name in NAMES:
        (raw / name).write_bytes(idx(name))
        (raw / f"{name}.gz").write_bytes(gzip.compress(idx(name)))


def dotted(folder: Path) -> None:
    folder.mkdir()
    for name in NAMES:
        (folder / name.replace("-idx", ".idx")).write_bytes(idx(name))


def folder_of_its_name(folder: Path) -> None:
    for name in NAMES:
        (folder / name).mkdir(parents=True)
        (folder / name / name).write_bytes(idx(name))


def gzipped_without_an_ending(folder: Path) -> None:
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_bytes(gzip.compress(idx(name)))


def ending_without_gzip(folder: Path) -> None:
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.gz").write_bytes(idx(name))


def emnist(folder: Path) -> None:
    """Columns are stored where MNIST has rows."""
    folder.mkdir()
    for name in NAMES:
        body = idx(name)
        if "images" in name:
            body = body[:16] + np.frombuffer(body[16:], np.uint8).reshape(-1, 28, 28).transpose(0, 2, 1).tobytes()
        renamed = name.replace("train-", "emnist-digits-train-").replace("t10k-", "emnist-digits-test-")
        (folder / f"{renamed}.gz").write_bytes(gzip.compress(body))


# What `--data` takes as it is, and what it wants imported first.
USED_DIRECTLY = [torchvision, dotted, folder_of_its_name, gzipped_without_an_ending, ending_without_gzip]
IMPORTED = [kaggle, keras, hugging_face, emnist]
