"""Unusual data: turned, scaled and named as they should be with a notice, or refused in one sentence."""

import json
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import other_forms as forms
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from common import PROGRAM
from conftest import DATA, NO_PICTURES, tch_mnist
from PIL import Image
from test_import import refused

Images = np.ndarray
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def imported(folder: Path, *sources: object) -> tuple[Images, Images, str]:
    """Images and labels of an import without test images, and what it logged."""
    command = [PROGRAM, "import", *sources, "--data", folder, "--test-share", "0", "--force"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    images = np.frombuffer((folder / forms.NAMES[0]).read_bytes()[16:], np.uint8).reshape(-1, 28, 28)
    return images, np.frombuffer((folder / forms.NAMES[1]).read_bytes()[8:], np.uint8), done.stderr


def classes(folder: Path) -> list[str]:
    return json.loads((folder / "dataset.json").read_text())["classes"]


def write_table(path: Path, images: Images, labels: Images) -> None:
    """A file of the form that its ending says."""
    match path.suffix:
        case ".npz":
            np.savez(path, x_train=images, y_train=labels)
        case ".npy":
            np.save(path, images)
            np.save(path.with_name(path.name.replace("images", "labels")), labels)
        case ".csv":
            forms.write_csv(path, images, labels)
        case ".parquet":
            columns = {f"pixel{k}": pixels for k, pixels in enumerate(images.reshape(len(images), -1).T)}
            pq.write_table(pa.table({"label": labels, **columns}), path)


TABLES = ["train.npz", "train-images.npy", "train.csv", "train.parquet"]


# Black on white


@pytest.mark.parametrize("name", TABLES)
def test_black_on_white_tables_are_turned(tmp_path: Path, trained: Path, name: str) -> None:
    images, labels = forms.arrays("train")
    write_table(tmp_path / name, 255 - images, labels)
    found, found_labels, log = imported(tmp_path / "data", tmp_path / name)
    assert (found == images).all()
    assert (found_labels == labels).all()
    assert f"{name}: the images are black on white" in log
    assert (imported(tmp_path / "data", tmp_path / name, "--no-invert")[0] == 255 - images).all()
    assert (imported(tmp_path / "data", tmp_path / name, "--invert")[0] == images).all()
    # What was imported is taken as it is, though its border is light.
    imported(tmp_path / "kept", tmp_path / name, "--no-invert")
    options = ["--validation", 100, "--epochs", 1, "--batch-size", 50, "--device", "cpu"]
    done = subprocess.run(
        [PROGRAM, "train", "--data", tmp_path / "kept", "--out", tmp_path / "run", *map(str, options), *NO_PICTURES],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert "black on white" not in done.stderr
    predict = ["predict", "--weights", trained / "model.pt", "--format", "csv"]
    write_table(tmp_path / f"white-{name}", images, labels)
    text = tch_mnist(*predict, tmp_path / f"white-{name}")
    assert tch_mnist(*predict, tmp_path / name) == text
    assert tch_mnist(*predict, tmp_path / name, "--no-invert") != text


def test_pictures_of_mixed_sizes_are_all_white_on_black(tmp_path: Path, trained: Path) -> None:
    images, labels = forms.arrays("train")
    images, labels = images[:100], labels[:100]
    for k, (image, label) in enumerate(zip(images, labels, strict=True)):
        picture = Image.fromarray(255 - image)
        if k % 2:
            wide = Image.new("L", (44, 40), 255)
            wide.paste(picture, (8, 6))
            picture = wide
        (tmp_path / f"pictures/{label}").mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / f"pictures/{label}/{k:03}.png")
    found, found_labels, log = imported(tmp_path / "data", tmp_path / "pictures")
    assert "black on white" in log
    assert (np.sort(found_labels) == np.sort(labels)).all()
    borders = np.concatenate([found[:, [0, -1]].reshape(100, -1), found[:, :, [0, -1]].reshape(100, -1)], 1)
    assert (borders.mean(1) < 10).all()
    pictures = {image.tobytes() for image in found}
    assert all(image.tobytes() in pictures for image in images[::2])
    # predict reads them as import does.
    paths = sorted((tmp_path / "pictures").rglob("*.png"), key=lambda path: path.name)[::2]
    lines = tch_mnist("predict", "--weights", trained / "model.pt", "--format", "json", *paths).splitlines()
    np.save(tmp_path / "white.npy", images[::2])
    tables = tch_mnist(
        "predict", "--weights", trained / "model.pt", "--format", "json", tmp_path / "white.npy"
    ).splitlines()
    for one, other in zip(lines, tables, strict=True):
        assert json.loads(one)["probabilities"] == json.loads(other)["probabilities"]
    raw = tch_mnist("predict", "--weights", trained / "model.pt", "--format", "json", "--raw", *paths).splitlines()
    assert [json.loads(line)["probabilities"] for line in raw] == [json.loads(line)["probabilities"] for line in tables]


def test_black_on_white_idx_files_are_turned_for_every_command(tmp_path: Path, trained: Path) -> None:
    for folder, turn in [("white", False), ("black", True)]:
        (tmp_path / folder).mkdir()
        for name in forms.NAMES:
            body = forms.idx(name)
            if turn and "images" in name:
                body = body[:16] + (255 - np.frombuffer(body[16:], np.uint8)).tobytes()
            (tmp_path / folder / name).write_bytes(body)
    evaluate = ["evaluate", "--weights", trained / "model.pt", "--device", "cpu", "--log-format", "json"]
    expected = tch_mnist(*evaluate, "--data", tmp_path / "white")
    done = subprocess.run(map(str, [PROGRAM, *evaluate, "--data", tmp_path / "black"]), capture_output=True, text=True)
    assert done.stdout == expected
    assert "t10k-images-idx3-ubyte: the images are black on white" in done.stderr
    assert tch_mnist(*evaluate, "--data", tmp_path / "black", "--invert") == expected
    assert tch_mnist(*evaluate, "--data", tmp_path / "black", "--no-invert") != expected
    options = ["--epochs", 1, "--batch-size", 50, "--device", "cpu", "--threads", 1, *NO_PICTURES]
    for name, flags in [("white", []), ("black", []), ("turned", ["--invert"]), ("kept", ["--no-invert"])]:
        data = tmp_path / ("white" if name == "white" else "black")
        tch_mnist("train", "--data", data, "--out", tmp_path / "runs" / name, *options, *flags)
    weights = {
        name: (tmp_path / "runs" / name / "losses.csv").read_bytes() for name in ["white", "black", "turned", "kept"]
    }
    assert weights["white"] == weights["black"] == weights["turned"] != weights["kept"]
    assert "invert = false" in (tmp_path / "runs/kept/config.toml").read_text()


# Pixels that are not bytes


SCALES: dict[str, Callable[[Images], Images]] = {
    "shares": lambda images: (images / 255).astype(np.float32),
    "standardised": lambda images: ((images / 255 - 0.1307) / 0.3081).astype(np.float32),
    "from -1 to 1": lambda images: (images / 127.5 - 1).astype(np.float64),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("scale", SCALES)
def test_pixels_on_other_scales_are_the_same_bytes(tmp_path: Path, name: str, scale: str) -> None:
    images, labels = forms.arrays("train")
    write_table(tmp_path / name, SCALES[scale](images[:200]), labels[:200])
    assert (imported(tmp_path / "data", tmp_path / name)[0] == images[:200]).all()


@pytest.mark.parametrize("name", TABLES)
def test_zeros_and_ones_are_black_and_white(tmp_path: Path, trained: Path, name: str) -> None:
    images, labels = forms.arrays("train")
    bits = (images[:200] > 100).astype(np.uint8)
    write_table(tmp_path / name, bits, labels[:200])
    assert (imported(tmp_path / "data", tmp_path / name)[0] == 255 * bits).all()
    np.save(tmp_path / "bytes.npy", 255 * bits)
    predict = ["predict", "--weights", trained / "model.pt", "--format", "csv"]
    assert tch_mnist(*predict, tmp_path / name) == tch_mnist(*predict, tmp_path / "bytes.npy")


@pytest.mark.parametrize("name", TABLES)
def test_other_standardised_pixels_are_refused(tmp_path: Path, trained: Path, name: str) -> None:
    images, labels = forms.arrays("train")
    write_table(tmp_path / name, (images[:200].astype(np.float32) - 40) / 90, labels[:200])
    for command in [["import", "--data", tmp_path / "data"], ["predict", "--weights", trained / "model.pt"]]:
        sentence = refused(*command, tmp_path / name)
        assert "its pixels go from -0.44 to 2.39; 0 to 255, 0 to 1, or MNIST's standardised" in sentence
        assert len(sentence) < 400


def test_lists_of_numbers_in_parquet_are_images(tmp_path: Path) -> None:
    images, labels = forms.arrays("train")
    table = pa.table({"image": [image.tolist() for image in images[:100]], "label": labels[:100]})
    pq.write_table(table, tmp_path / "train.parquet")
    assert (imported(tmp_path / "data", tmp_path / "train.parquet")[0] == images[:100]).all()


# Where the label is


@pytest.mark.parametrize("options", [{}, {"delimiter": ","}, {"delimiter": "\t", "fmt": "%d"}, {"fmt": "%3d"}], ids=str)
@pytest.mark.parametrize("noise", [False, True])
def test_numpy_text_with_the_label_last(tmp_path: Path, trained: Path, options: dict, noise: bool) -> None:
    images, labels = forms.arrays("train")
    images = images[:200].copy()
    if noise:
        images[:, 0, 0] = np.random.default_rng(0).integers(0, 4, 200)
    rows = np.column_stack([images.reshape(200, -1), labels[:200]])
    np.savetxt(tmp_path / "train.txt", rows, **options)
    found, found_labels, _ = imported(tmp_path / "data", tmp_path / "train.txt")
    assert (found == images).all()
    assert (found_labels == labels[:200]).all()
    predict = ["predict", "--weights", trained / "model.pt", "--format", "csv"]
    np.save(tmp_path / "train.npy", images)
    assert tch_mnist(*predict, tmp_path / "train.txt") == tch_mnist(*predict, tmp_path / "train.npy")


def test_one_hot_labels_are_read(tmp_path: Path) -> None:
    images, labels = forms.arrays("train")
    np.savez(tmp_path / "hot.npz", x_train=images, y_train=np.eye(10)[labels])
    np.savetxt(tmp_path / "hot.csv", np.column_stack([images.reshape(-1, 784), np.eye(10)[labels]]), "%d", ",")
    for name in ["hot.npz", "hot.csv"]:
        found, found_labels, _ = imported(tmp_path / "data", tmp_path / name)
        assert (found == images).all()
        assert (found_labels == labels).all()


@pytest.mark.parametrize("name", [*TABLES, "pictures"])
def test_one_class_is_refused(tmp_path: Path, name: str) -> None:
    images, labels = forms.arrays("train")
    fives = images[labels == 5]
    labels = np.full(len(fives), 5)
    if name == "pictures":
        forms.write_pictures(tmp_path / name, fives, labels)
    else:
        write_table(tmp_path / name, fives, labels)
    sentence = refused("import", tmp_path / name, "--data", tmp_path / "data")
    assert "of one class, 5: at least two are needed" in sentence
    # Without a header, and with noise where the label could be.
    fives = fives.copy()
    fives[:, 0, 0] = np.arange(len(fives)) % 3
    np.savetxt(tmp_path / "last.csv", np.column_stack([fives.reshape(len(fives), -1), labels]), "%d", ",")
    assert "the label may be in the first column or in the last" in refused(
        "import", tmp_path / "last.csv", "--data", tmp_path / "data"
    )


def test_training_files_of_one_class_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in forms.NAMES:
        body = forms.idx(name)
        (tmp_path / "data" / name).write_bytes(body if "images" in name else body[:8] + bytes([3] * (len(body) - 8)))
    sentence = refused("train", "--data", tmp_path / "data", "--out", tmp_path / "run")
    assert "train-labels-idx1-ubyte holds the label 3 alone: at least two classes are needed" in sentence


# Classes


def named(folder: Path, names: list[str]) -> Path:
    """A CSV whose labels have these names, the digits in another order."""
    images, labels = forms.arrays("train")
    order = np.argsort(-labels.astype(int), kind="stable")
    forms.write_csv(folder / "named.csv", images[order], np.array([names[label] for label in labels[order]]))
    return folder / "named.csv"


@pytest.mark.parametrize(
    "names",
    [["10", *map(str, range(1, 10))], WORDS, [word.upper() for word in WORDS], [f"{digit:02}" for digit in range(10)]],
    ids=lambda names: names[0],
)
def test_names_of_digits_are_in_the_digits_order(tmp_path: Path, trained: Path, names: list[str]) -> None:
    _, labels, _ = imported(tmp_path / "data", named(tmp_path, names))
    assert (labels == -np.sort(-forms.arrays("train")[1].astype(int))).all()
    assert classes(tmp_path / "data") == names
    command = [PROGRAM, "import", tmp_path / "named.csv", "--data", tmp_path / "data", "--force"]
    subprocess.run(command, check=True, capture_output=True)
    command = [
        PROGRAM,
        "evaluate",
        "--weights",
        trained / "model.pt",
        "--data",
        tmp_path / "data",
        "--log-format",
        "json",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "classes" not in done.stderr
    assert json.loads(done.stdout)["test_accuracy"] > 50


def test_classes_are_compared_in_both_directions(tmp_path: Path, trained: Path) -> None:
    images, labels = forms.arrays("train")
    animals = np.array(["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay"])
    forms.write_csv(tmp_path / "animals.csv", images, animals[labels])
    tch_mnist("import", tmp_path / "animals.csv", "--data", tmp_path / "animals")
    short = ["--epochs", 1, "--device", "cpu", *NO_PICTURES, "--limit-train", 200, "--limit-test", 100]
    tch_mnist("train", "--data", tmp_path / "animals", "--out", tmp_path / "named", *short)
    mnist, named = trained / "model.pt", tmp_path / "named/model.pt"
    for weights, data in [(mnist, tmp_path / "animals"), (named, DATA)]:
        done = subprocess.run(
            map(str, [PROGRAM, "evaluate", "--weights", weights, "--data", data, "--limit-test", 100]),
            capture_output=True,
            text=True,
        )
        assert "the weights are for the classes" in done.stderr, done.stderr
        out = ["--data", data, "--out", tmp_path / "new", *short]
        assert "--teacher was refused" in refused("train", "--teacher", weights, *out)
        done = subprocess.run(map(str, [PROGRAM, "train", "--init", weights, *out]), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "--init: the weights are for the classes" in done.stderr
        subprocess.run(["rm", "-r", str(tmp_path / "new")], check=True)


# Where a download goes


def test_a_download_goes_only_where_it_was_asked_to(tmp_path: Path) -> None:
    # No mirror answers through this proxy.
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": ""}
    images, labels = forms.arrays("train")

    def sentence(name: str) -> str:
        return refused("train", "--data", tmp_path / name, "--out", tmp_path / "run", **nowhere)

    assert f"--data {tmp_path}/missing does not exist" in sentence("missing")
    assert not (tmp_path / "missing").exists()
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat/7.png").write_bytes(forms.png(images[0]))
    assert "flat holds no files of mnist: it holds pictures, but no subfolder per class" in sentence("flat")
    forms.write_pictures(tmp_path / "one", images[:3], np.zeros(3, int))
    assert "one holds no files of mnist: it holds pictures of one class, 0" in sentence("one")
    for name in ["flat", "one"]:
        assert f"run `tch-mnist download --dataset mnist --data {tmp_path}/{name}`" in sentence(name)
        assert not (tmp_path / name / "mnist").exists()
    # Somebody's own training files, without a test set.
    (tmp_path / "own").mkdir()
    for name in forms.NAMES[:2]:
        (tmp_path / "own" / name).write_bytes(forms.idx(name))
    assert "own holds files that are not the published ones of mnist, and others are missing" in sentence("own")
    # An empty folder, one for the dataset, and one with a file of it are filled.
    (tmp_path / "empty").mkdir()
    (tmp_path / "root/mnist").mkdir(parents=True)
    (tmp_path / "root/notes.txt").write_text("other data")
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / forms.NAMES[3]).symlink_to(DATA / "mnist" / forms.NAMES[3])
    for name in ["empty", "root", "part"]:
        assert "could not be fetched" in sentence(name)


# Other people's files


def test_qmnist_and_kmnist_are_read_in_their_own_files(tmp_path: Path) -> None:
    images, labels = forms.arrays("train")
    wide = np.zeros((len(labels), 8), ">i4")
    wide[:, 0], wide[:, 1:] = labels, np.arange(7)
    (tmp_path / "qmnist").mkdir()
    (tmp_path / "qmnist/qmnist-train-images-idx3-ubyte").write_bytes(forms.idx(forms.NAMES[0]))
    header = struct.pack(">3I", 0x0C02, len(labels), 8)
    (tmp_path / "qmnist/qmnist-train-labels-idx2-int").write_bytes(header + wide.tobytes())
    (tmp_path / "kmnist").mkdir()
    for name, array in [("imgs", images), ("labels", labels)]:
        np.savez_compressed(tmp_path / f"kmnist/kmnist-train-{name}.npz", array)
    for source in ["qmnist", "kmnist", "qmnist/qmnist-train-images-idx3-ubyte", "kmnist/kmnist-train-imgs.npz"]:
        found, found_labels, log = imported(tmp_path / "data", tmp_path / source)
        assert (found == images).all()
        assert (found_labels == labels).all()
        assert "WARN" not in log
    (tmp_path / "qmnist/qmnist-train-labels-idx2-int").write_bytes(header + wide.tobytes()[:-1])
    assert "qmnist-train-labels-idx2-int: it is cut short" in refused(
        "import", tmp_path / "qmnist", "--data", tmp_path / "other"
    )


def unread(folder: Path) -> Iterator[tuple[str, str]]:
    """Data that cannot be read, and what is said about them."""
    images, labels = forms.arrays("train")
    arrays = "save its arrays by numpy.savez('data.npz', x_train=images, y_train=labels) and import that"
    (folder / "MNIST/processed").mkdir(parents=True)
    torch.save((torch.tensor(images[:9]), torch.tensor(labels[:9])), folder / "MNIST/processed/training.pt")
    yield "MNIST/processed/training.pt", f"it is a file of torch.save: {arrays}"
    yield ".", f"it holds training.pt, a file of torch.save: {arrays}"
    legacy = folder / "old.pt"
    torch.save((torch.tensor(images[:9]), torch.tensor(labels[:9])), legacy, _use_new_zipfile_serialization=False)
    yield "old.pt", f"it is a file of torch.save: {arrays}"
    (folder / "mnist.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    yield "mnist.h5", f"it is an HDF5 file: {arrays}"
    (folder / "flat").mkdir()
    for k in range(20):
        (folder / f"flat/{labels[k]}_{k}.png").write_bytes(forms.png(images[k]))
    subfolders = "put each picture into a subfolder named after its class and import the folder"
    yield "flat", f"it holds pictures, but no subfolder per class: {subfolders}"
    (folder / "listed").mkdir()
    for k in range(5):
        (folder / f"listed/{k}.png").write_bytes(forms.png(images[k]))
    (folder / "listed/labels.csv").write_text("file,label\n" + "".join(f"{k}.png,{labels[k]}\n" for k in range(5)))
    yield "listed", f"it holds pictures and labels.csv, but no subfolder per class: {subfolders}"
    columns = {f"feature{k}": pixels for k, pixels in enumerate(images.reshape(len(images), -1).T[:600])}
    pq.write_table(pa.table(columns), folder / "wide.parquet")
    yield "wide.parquet", "only feature0, feature1, feature2, feature3, feature4 and 595 others"


def test_what_is_not_read_is_named_in_a_short_sentence(tmp_path: Path) -> None:
    for name, expected in unread(tmp_path):
        sentence = refused("import", tmp_path / name, "--data", tmp_path / "data")
        assert expected in sentence, sentence
        assert len(sentence.replace(str(tmp_path), "")) < 300
