"""Data in the forms that other libraries write: imported to the published bytes, trained on, predicted."""

import csv
import json
import os
import ssl
import subprocess
import threading
from collections.abc import Callable
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import other_forms as forms
import pytest
from common import PROGRAM
from conftest import DATA, NO_PICTURES, json_lines, tch_mnist
from PIL import Image

Form = Callable[[Path], None]


def refused(*args: object, code: int = 1, **environment: str) -> str:
    """The one sentence on stderr of a command that fails; the log before it is left out."""
    command = [str(PROGRAM), *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == code, done.stderr
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return sentence


@pytest.mark.parametrize("form", [*forms.IMPORTED, *forms.USED_DIRECTLY], ids=lambda form: form.__name__)
def test_an_import_is_the_published_files(tmp_path: Path, form: Form) -> None:
    form(tmp_path / "source")
    tch_mnist("import", tmp_path / "source", "--data", tmp_path / "data")
    for name in forms.NAMES:
        assert (tmp_path / "data" / name).read_bytes() == forms.idx(name), name
    info = json.loads((tmp_path / "data/dataset.json").read_text())
    assert info["classes"] == [str(digit) for digit in range(10)]
    assert (info["train"]["images"], info["test"]["images"]) == (forms.TRAIN, forms.TEST)
    assert info["train"]["per_class"] == np.bincount(forms.arrays("train")[1]).tolist()
    sheet = Image.open(tmp_path / "data/import.png").convert("L")
    assert 0.001 < sum(sheet.histogram()[:100]) / (sheet.width * sheet.height) < 0.2


@pytest.mark.parametrize("form", forms.USED_DIRECTLY, ids=lambda form: form.__name__)
def test_usual_names_and_places_are_used_directly(tmp_path: Path, trained: Path, form: Form) -> None:
    (tmp_path / "published").mkdir()
    for name in forms.NAMES:
        (tmp_path / "published" / name).write_bytes(forms.idx(name))
    form(tmp_path / "other")
    results = []
    for data in ["published", "other"]:
        arguments = ["--weights", trained / "model.pt", "--device", "cpu", "--log-format", "json", "-q"]
        results.append(tch_mnist("evaluate", "--data", tmp_path / data, *arguments))
    assert results[0] == results[1]
    assert json.loads(results[0])["total"] == forms.TEST


@pytest.mark.parametrize("form", forms.IMPORTED, ids=lambda form: form.__name__)
def test_other_forms_get_the_import_command(tmp_path: Path, form: Form) -> None:
    form(tmp_path / "source")
    source, target = tmp_path / "source", tmp_path / "source-idx"
    sentence = refused("train", "--data", source, "--out", tmp_path / "run")
    assert f"run `tch-mnist import {source} --data {target}`" in sentence
    assert not (tmp_path / "run").exists()


def test_other_data_below_a_root_do_not_stand_in_the_way_of_a_download(tmp_path: Path, trained: Path) -> None:
    forms.torchvision(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/7.png").write_bytes(forms.png(forms.arrays("t10k")[0][0]))
    (tmp_path / "results.csv").write_text("epoch,loss\n1,0.5\n")
    evaluate = ["evaluate", "--weights", trained / "model.pt", "--data", tmp_path]
    assert f"/{forms.TEST} " in tch_mnist(*evaluate)
    assert "is missing: run `tch-mnist download --dataset kmnist" in refused(*evaluate, "--dataset", "kmnist")


def test_pictures_are_imported_by_class(tmp_path: Path) -> None:
    for part, folder in [("train", "training"), ("t10k", "testing")]:
        forms.write_pictures(tmp_path / "pictures" / folder, *forms.arrays(part))
    tch_mnist("import", tmp_path / "pictures", "--data", tmp_path / "data")
    for part in ["train", "t10k"]:
        bodies = [(tmp_path / "data" / name).read_bytes() for name in forms.NAMES if name.startswith(part)]
        images, labels = (
            np.frombuffer(bodies[0][16:], np.uint8).reshape(-1, 784),
            np.frombuffer(bodies[1][8:], np.uint8),
        )
        found = sorted((label, image.tobytes()) for label, image in zip(labels, images, strict=True))
        published = zip(*reversed(forms.arrays(part)), strict=True)
        assert found == sorted((label, image.tobytes()) for label, image in published)
    # Of all classes from the beginning, for --limit-train.
    assert sorted(labels[:10]) == list(range(10))


def test_classes_have_names_from_the_folders_to_the_report(tmp_path: Path) -> None:
    images, labels = forms.arrays("train")
    for digit, name in enumerate(["pear", "apple", "fig"]):
        forms.write_pictures(tmp_path / "all", images[labels == digit], np.full((labels == digit).sum(), name))
    tch_mnist("import", tmp_path / "all", "--data", tmp_path / "data", "--test-share", 0.25)
    info = json.loads((tmp_path / "data/dataset.json").read_text())
    assert info["classes"] == ["apple", "fig", "pear"]
    expected = [round(0.25 * (labels == digit).sum()) for digit in [1, 2, 0]]
    assert np.abs(np.subtract(info["test"]["per_class"], expected)).max() <= 1
    run = tmp_path / "run"
    tch_mnist("train", "--data", tmp_path / "data", "--device", "cpu", "--out", run, "--epochs", 6, "--batch-size", 16)
    assert "label</h" not in (run / "report.html").read_text()
    assert "apple" in (run / "plots/confusion.svg").read_text()
    for ending in ["pt", "pth", "safetensors", "onnx", "pt2"]:
        line = tch_mnist(
            "predict", "--weights", run / f"model.{ending}", tmp_path / "all/fig/00002.png", "--format", "json"
        )
        prediction = json.loads(line)
        assert prediction["class"] == info["classes"][int(np.argmax(prediction["probabilities"]))], ending
        # A word is no digit.
        assert "digit" not in prediction, ending
        assert "digit" not in prediction["digits"][0], ending
    table = tch_mnist("evaluate", "--weights", run / "model.pt", "--data", tmp_path / "data", "--device", "cpu")
    assert "\n 2 pear" in table
    # Accuracies and confusion matrix: three rows each, and no class without a name.
    assert len(table.strip().splitlines()) == 12
    # On images of other classes an accuracy means nothing.
    command = [PROGRAM, "evaluate", "--weights", run / "model.pt", "--data", DATA, "--limit-test", "100"]
    done = subprocess.run(command, capture_output=True, text=True)
    refusal = "the weights are for the classes apple, fig, pear, and these images are of 0, 1, 2"
    assert refusal in done.stderr
    command = [PROGRAM, "train", "--teacher", run / "model.pt", "--data", DATA, "--out", tmp_path / "taught"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"--teacher was refused: {run / 'model.pt'}: {refusal}" in done.stderr


def test_kaggle_from_train_csv_to_submission(tmp_path: Path, trained: Path) -> None:
    images, labels = forms.arrays("train")
    forms.write_csv(tmp_path / "train.csv", images, labels)
    test_images, test_labels = forms.arrays("t10k")
    forms.write_csv(tmp_path / "test.csv", test_images, None)
    tch_mnist("import", tmp_path / "train.csv", "--data", tmp_path / "data")
    predict = ["predict", "--weights", trained / "model.pth", "--format"]
    text = tch_mnist(*predict, "csv", tmp_path / "test.csv")
    rows = list(csv.reader(text.splitlines()))
    assert rows[0] == ["ImageId", "Label"]
    assert [int(row[0]) for row in rows[1:]] == list(range(1, forms.TEST + 1))
    right = np.mean([int(row[1]) for row in rows[1:]] == test_labels)
    # Trained on a slice; by chance it would be 0.1.
    assert right > 0.5
    # The same images in every other form.
    np.savez(tmp_path / "test.npz", x_test=test_images)
    np.save(tmp_path / "test.npy", test_images.astype(np.float32) / 255)
    forms.write_parquet(tmp_path / "test.parquet", test_images, test_labels)
    (tmp_path / "t10k.idx3-ubyte").write_bytes(forms.idx(forms.NAMES[2]))
    for name in ["test.npz", "test.npy", "test.parquet", "t10k.idx3-ubyte"]:
        assert tch_mnist("predict", "--weights", trained / "model.pth", "--format", "csv", tmp_path / name) == text, (
            name
        )
    objects = json_lines(
        tch_mnist("predict", "--weights", trained / "model.pth", "--format", "json", tmp_path / "test.csv")
    )
    assert [line["index"] for line in objects] == list(range(forms.TEST))


def test_a_row_that_cannot_be_read_costs_no_other(tmp_path: Path, trained: Path) -> None:
    forms.write_csv(tmp_path / "test.csv", forms.arrays("t10k")[0][:3], None)
    rows = (tmp_path / "test.csv").read_text().splitlines()
    (tmp_path / "test.csv").write_text("\n".join([rows[0], rows[1], "x" + rows[2], rows[3]]))
    command = [PROGRAM, "predict", "--weights", trained / "model.pt", "--format", "csv", tmp_path / "test.csv"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert [line.split(",")[0] for line in done.stdout.splitlines()] == ["ImageId", "1", "3"]
    assert "row 3: field 1 is x0" in done.stderr


def test_data_sorted_by_class_say_as_well_what_digits_look_like(tmp_path: Path, trained: Path) -> None:
    images = np.frombuffer((DATA / "mnist/train-images-idx3-ubyte").read_bytes()[16:], np.uint8).reshape(-1, 28, 28)
    labels = np.frombuffer((DATA / "mnist/train-labels-idx1-ubyte").read_bytes()[8:], np.uint8)
    order = np.argsort(labels[:20000], kind="stable")
    np.savez(tmp_path / "train.npz", x_train=images[order], y_train=labels[order])
    tch_mnist("import", tmp_path / "train.npz", "--data", tmp_path / "data", "--test-share", 0)
    tch_mnist("export", "--weights", trained / "model.pth", "--to", tmp_path / "plain.npz")
    np.save(tmp_path / "test.npy", images[30000:31000])
    predict = ["predict", "--weights", tmp_path / "plain.npz", "--format", "json", "--data", tmp_path / "data"]
    lines = json_lines(tch_mnist(*predict, tmp_path / "test.npy"))
    assert np.mean([line["unsure"] for line in lines]) < 0.03


def test_only_the_files_that_are_needed_have_to_be_there(tmp_path: Path, trained: Path) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "train").mkdir()
    for name in forms.NAMES:
        (tmp_path / ("train" if name.startswith("train") else "test") / name).write_bytes(forms.idx(name))
    weights = ["--weights", trained / "model.pt", "--device", "cpu"]
    assert f"/{forms.TEST} " in tch_mnist("evaluate", *weights, "--data", tmp_path / "test")
    options = ["--validation", 100, "--epochs", 1, "--device", "cpu", "--batch-size", 50]
    out = ["--data", tmp_path / "train", "--out", tmp_path / "run"]
    assert "Validation set: " in tch_mnist("train", *options, *NO_PICTURES, *out)
    tch_mnist("report", tmp_path / "run")
    assert "t10k-images-idx3-ubyte is missing" in refused("evaluate", *weights, "--data", tmp_path / "train")


def test_what_cannot_be_imported_is_refused_in_one_sentence(tmp_path: Path) -> None:
    images, labels = forms.arrays("train")
    images, labels = images[:50], labels[:50]
    good = tmp_path / "good.csv"
    forms.write_csv(good, images, labels)
    rows = good.read_text().splitlines()
    (tmp_path / "short.csv").write_text("\n".join([*rows[:20], "1,2,3"]))
    (tmp_path / "eleven.csv").write_text("\n".join([rows[0], *[f"{k}," + rows[1].split(",", 1)[1] for k in range(11)]]))
    forms.write_csv(tmp_path / "unlabelled.csv", images, None)
    np.savez(tmp_path / "size.npz", x_train=np.zeros((3, 32, 32), np.uint8), y_train=np.zeros(3))
    np.savez(tmp_path / "count.npz", x_train=images, y_train=labels[:-1])
    (tmp_path / "cut.npz").write_bytes((tmp_path / "count.npz").read_bytes()[:9000])
    forms.write_parquet(tmp_path / "good.parquet", images, labels)
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "good.parquet").read_bytes()[:3000])
    forms.write_pictures(tmp_path / "pictures", images, labels)
    (tmp_path / "pictures/3/broken.png").write_bytes(b"not a picture")
    (tmp_path / "empty").mkdir()
    for source, expected in [
        ("short.csv", "short.csv cannot be imported: row 21: it has 3 fields, and the first row has 785"),
        ("eleven.csv", "10 is the eleventh class after 0, 1, 2, 3, 4, 5, 6, 7, 8, 9; at most 10 are possible"),
        ("unlabelled.csv", "unlabelled.csv has no labels"),
        ("size.npz", "its array x_train: its shape is [3, 32, 32]; [N, 28, 28] or [N, 784] is expected"),
        ("count.npz", "its array x_train: it has 50 images, but y_train has 49 labels"),
        ("cut.npz", "cut.npz cannot be read: it is damaged or cut short"),
        ("cut.parquet", "cut.parquet cannot be read: it is damaged or cut short"),
        ("pictures", "3/broken.png: it is not a picture"),
        ("empty", "empty cannot be read: it is empty: pictures in a folder per class, "),
        ("missing.csv", "missing.csv cannot be read: No such file or directory"),
    ]:
        sentence = refused("import", tmp_path / source, "--data", tmp_path / "data")
        assert expected in sentence, sentence
        assert not (tmp_path / "data").exists()


def test_pictures_that_cannot_be_read_are_left_out_if_asked_to(tmp_path: Path) -> None:
    images, labels = forms.arrays("train")
    forms.write_pictures(tmp_path / "pictures", images[:50], labels[:50])
    (tmp_path / "pictures/3/broken.png").write_bytes(b"not a picture")
    (tmp_path / "pictures/4/cut.png").write_bytes(next((tmp_path / "pictures/4").glob("*.png")).read_bytes()[:60])
    command = ["import", tmp_path / "pictures", "--data", tmp_path / "data"]
    assert refused(*command).endswith("; --skip-unreadable leaves such pictures out")
    done = subprocess.run([PROGRAM, *command, "--skip-unreadable"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    left_out = sorted(line.split(": ")[1] for line in done.stderr.splitlines() if "left out: " in line)
    assert left_out == ["3/broken.png", "4/cut.png"]
    info = json.loads((tmp_path / "data/dataset.json").read_text())
    assert info["train"]["images"] + info["test"]["images"] == 50


def test_an_import_does_not_replace_data_unasked_and_damage_is_seen(tmp_path: Path, trained: Path) -> None:
    forms.keras(tmp_path / "source")
    target = ["--data", tmp_path / "data"]
    tch_mnist("import", tmp_path / "source", *target)
    sentence = refused("import", tmp_path / "source", *target, code=2)
    assert "there is data already" in sentence
    tch_mnist("import", tmp_path / "source", *target, "--force")
    assert tch_mnist("doctor", *target).count("as imported") == 4
    labels = tmp_path / "data/t10k-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\x05")
    sentence = refused("evaluate", "--weights", trained / "model.pt", *target)
    assert "is not the file that was imported" in sentence


@pytest.fixture
def mirror(tmp_path: Path) -> str:
    """The address of a mirror whose certificate comes from an issuer of its own, `ca.pem`."""
    commands = [
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=issuer",
        "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost",
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out server.pem",
    ]
    (tmp_path / "extensions").write_text("subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n")
    for command in commands:
        subprocess.run(["openssl", *command.split()], cwd=tmp_path, check=True, capture_output=True)
    served = tmp_path / "served"
    served.mkdir()
    for name in forms.NAMES:
        subprocess.run(f"gzip -1 <{DATA / 'mnist' / name} >{served / name}.gz", shell=True, check=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(served))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://localhost:{server.server_port}/"
    server.shutdown()


def test_a_mirror_is_trusted_if_the_system_says_so(tmp_path: Path, mirror: str) -> None:
    download = ["download", "--data", tmp_path / "data", "--mirror", mirror]
    sentence = refused(*download, SSL_CERT_FILE="")
    assert "certificate" in sentence
    assert "SSL_CERT_FILE" in sentence
    trusted = {"SSL_CERT_FILE": str(tmp_path / "ca.pem")}
    sentence = refused(*download, **trusted, HTTPS_PROXY="http://user:secret@127.0.0.1:9", NO_PROXY="")
    assert "through the proxy 127.0.0.1:9" in sentence
    assert "secret" not in sentence
    environment = {**os.environ, **trusted, "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "localhost"}
    done = subprocess.run([PROGRAM, *download], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout.count("sha256 ok")) == (0, 4), done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--dry-run"], "error: --dry-run is not a flag here: use --epochs 1 --limit-train 128"),
        (["--no-cuda"], "error: --no-cuda is not a flag here: use --device cpu"),
        (["--test_batch_size=1000"], "error: --test_batch_size is not a flag here: use --batch-size"),
        (["--device", "mps"], "error: --device mps: Apple's GPU cannot be used from here; use --device cpu"),
        (["--lr", "0,01"], "error: --lr: write 0.01, with a decimal point"),
    ],
)
def test_habits_from_elsewhere_get_their_sentence(arguments: list[str], sentence: str) -> None:
    assert refused("train", *arguments, code=2).startswith(sentence)


def test_a_config_in_utf_16_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("lr = 0.1\n", encoding="utf-16")
    assert "it is in UTF-16: save it as UTF-8" in refused("train", "--config", tmp_path / "config.toml")


def test_capitals_and_gpu_name_devices() -> None:
    for device, resolved in [("CPU", "cpu"), ("gpu", "cuda:0"), ("GPU:1", "cuda:1"), ("Auto", "auto")]:
        assert f'device = "{resolved}"' in tch_mnist("train", "--device", device, "--print-config")
