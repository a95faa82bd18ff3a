"""The same seed, the same bits: the program and its twin in PyTorch, `scripts/reference.py`."""

from pathlib import Path

import pytest
import torch
from common import lists
from compare import read_losses
from conftest import DATA, NO_PICTURES, Both, Twin, json_lines, tch_mnist
from mnist import load_split
from net import Net
from reference import Rates, arguments
from safetensors.torch import load_file
from torch.optim import SGD

# 5 steps per epoch, the last one on 16 images.
SLICE = ["--limit-train", 528, "--limit-test", 200, "--epochs", 2]

# Few small steps, many epochs: 2 per epoch.
LONG_SLICE = ["--limit-train", 64, "--batch-size", 32, "--limit-test", 50, "--epochs", 12]

# The flags of each schedule by its name.
SCHEDULES = {kind["name"]: ["--schedule", kind["name"], *kind["examples"][0]] for kind in lists()["schedules"]}


def examples() -> list:
    """The flags of every example run of every optimizer, and others that concern them."""
    kinds = lists()["optimizers"]
    listed = [["--optimizer", kind["name"], *flags] for kind in kinds for flags in [[], *kind["examples"]]]
    clipped = [["--clip-grad-norm", 0.5], ["--optimizer", "adamw", "--clip-grad-norm", 1, "--schedule", "one-cycle"]]
    return [*listed, *clipped]


def assert_same_bits(twin: Path, program: Path) -> None:
    """Asserts that every step's loss and every tensor at the end are equal in every bit."""
    assert read_losses(program) == read_losses(twin)
    expected = torch.load(twin / "model.pth", weights_only=True)
    got = torch.load(program / "model.pth", weights_only=True)
    assert list(got) == list(expected)
    assert len(got) == 38
    differing = [key for key in expected if not torch.equal(got[key], expected[key])]
    assert differing == []


@pytest.mark.parametrize(("seed", "threads"), [(1, 2), (20, 1), (300, 2)])
def test_original_settings(both: Both, seed: int, threads: int) -> None:
    assert_same_bits(*both(*SLICE, "--seed", seed, "--threads", threads))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule(both: Both, schedule: str) -> None:
    options = ["--threads", 1, "--lr", 0.05, *SCHEDULES[schedule]]
    twin, program = both(*LONG_SLICE, *options)
    assert_same_bits(twin, program)
    rates = {lr for _, _, lr, _ in read_losses(program)}
    assert schedule == "constant" or len(rates) > 2


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_warm_up_in_front_of_every_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schedule: str) -> None:
    options = ["--lr", 0.05, *SCHEDULES[schedule]]
    options += [*LONG_SLICE, "--warmup-epochs", 3, "--threads", 1]
    tch_mnist("train", "--data", DATA, "--device", "cpu", *options, *NO_PICTURES, "--out", tmp_path / "run")
    steps = read_losses(tmp_path / "run")
    monkeypatch.setattr("sys.argv", ["reference.py", *map(str, options)])
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=0.05)
    rates, expected = Rates(arguments(), optimizer, 2), []
    for line in json_lines((tmp_path / "run/metrics.jsonl").read_text())[:-1]:
        for _ in range(2):
            expected.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            rates.after_step()
        rates.after_epoch(line.get("validation_loss"))
    assert [lr for _, _, lr, _ in steps] == expected
    assert expected[:6] == sorted(expected[:6])


@pytest.mark.parametrize(
    "options",
    [
        ["--weight-decay", 0.001],
        ["--schedule", "one-cycle", "--pct-start", 0.2, "--nesterov"],
        ["--momentum", 0, "--dropout", 0],
        ["--step-size", 1, "--gamma", 0.3, "--batch-size", 100, "--nesterov", "--weight-decay", 0.01],
    ],
)
def test_other_settings(both: Both, options: list) -> None:
    assert_same_bits(*both(*SLICE, "--threads", 2, *options))


def test_distillation(both: Both, trained: Path, tmp_path: Path) -> None:
    options = ["--data", DATA, "--device", "cpu", "--limit-train", 1280, "--limit-test", 100, "--epochs", 1]
    tch_mnist("train", *options, *NO_PICTURES, "--seed", 2, "--out", tmp_path / "teacher")
    teachers = f"{trained / 'model.pth'},{tmp_path / 'teacher/model.pth'}"
    options = ["--teacher", teachers, "--temperature", 3, "--distillation-weight", 0.7]
    assert_same_bits(*both(*SLICE, "--threads", 2, *options))


def assert_same_steps(folder: Path, twin: Twin, options: list) -> None:
    """Asserts that a short run of the program equals the twin's in every bit, the norms of its gradients too."""
    # 4 steps per epoch, the last one on 16 images.
    sizes = ["--limit-train", 400, "--limit-test", 100, "--epochs", 2, "--threads", 1, "--log-format", "json"]
    shared = ["--data", DATA, "--device", "cpu", *sizes, *options]
    expected = json_lines(twin(*shared, "--out", folder / "twin"))
    got = json_lines(tch_mnist("train", "--kernels", "torch", *shared, *NO_PICTURES, "--out", folder / "program"))
    assert [line.get("grad_norm") for line in got] == [line.get("grad_norm") for line in expected]
    assert_same_bits(folder / "twin", folder / "program")


@pytest.mark.parametrize("options", examples(), ids=lambda options: " ".join(map(str, options)))
def test_every_optimizer(tmp_path: Path, twin: Twin, options: list) -> None:
    assert_same_steps(tmp_path, twin, options)


def test_json_lines(tmp_path: Path, twin: Twin) -> None:
    options = ("--data", DATA, "--device", "cpu", "--log-format", "json", *SLICE, "--threads", 2)
    expected = json_lines(twin(*options))
    got = json_lines(tch_mnist("train", "--kernels", "torch", *options, *NO_PICTURES, "--out", tmp_path / "run"))
    measured = {"seconds", "images_per_second", "out"}
    for ours, theirs in zip(got, expected, strict=True):
        common = (ours.keys() & theirs.keys()) - measured
        assert {"event"} < common
        assert {key: ours[key] for key in common} == {key: theirs[key] for key in common}
    # A metric that only one of them has would be compared with nothing.
    assert got[0].keys() == expected[0].keys()


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.safetensors"])
def test_log_probabilities(tmp_path: Path, trained: Path, name: str) -> None:
    file = tmp_path / "log_probabilities.safetensors"
    weights = trained / name
    options = ["--kernels", "torch", "--device", "cpu", "--threads", 2, "--log-probabilities", file]
    tch_mnist("evaluate", "--data", DATA, "--weights", weights, *options)
    got = load_file(file)
    torch.set_num_threads(2)
    images, labels = load_split(DATA, "mnist", train=False)
    images = ((images.float() / 255 - 0.1307) / 0.3081).unsqueeze(1)
    if name == "model.pt":
        net = torch.jit.load(weights)
    else:
        net = Net()
        net.load_state_dict(load_file(weights) if name.endswith("safetensors") else torch.load(weights))
    net.eval()
    with torch.no_grad():
        expected = torch.cat([net(batch) for batch in images.split(128)])
    assert torch.equal(got["labels"], labels)
    assert torch.equal(got["log_probabilities"], expected)


def test_init_starts_from_the_weights_of_the_twin(tmp_path: Path, twin: Twin) -> None:
    options = ["--data", DATA, "--device", "cpu", "--limit-train", 640, "--limit-test", 500, "--epochs", 1]
    twin(*options, "--out", tmp_path / "twin")
    # At a learning rate that changes no weight, the first losses are those of the weights given.
    run = tmp_path / "run"
    tch_mnist("train", *options, *NO_PICTURES, "--lr", 1e-30, "--init", tmp_path / "twin/model.pth", "--out", run)
    expected = torch.load(tmp_path / "twin" / "model.pth", weights_only=True)
    got = torch.load(run / "model.pth", weights_only=True)
    kept = [key for key in expected if key.endswith((".weight", ".bias"))]
    assert len(kept) == 20
    assert all(torch.equal(got[key], expected[key]) for key in kept)
