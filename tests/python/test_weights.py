"""Weights between this program and PyTorch, in both directions."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import DATA, PROGRAM, ROOT, json_lines, script, tch_mnist
from mnist import load_split, normalise
from net import Net
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

FORMATS = ["pt", "pth", "safetensors"]

# PyTorch 2.11 warns of every use of TorchScript, which is one of the formats here.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


@pytest.fixture(scope="module")
def net() -> Net:
    """A net in PyTorch whose running statistics are not those of a new net."""
    torch.manual_seed(7)
    net = Net()
    with torch.no_grad():
        net(torch.randn(64, 1, 28, 28))
    return net


def open_in_python(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".pt":
        return torch.jit.load(path).state_dict()
    return torch.load(path, weights_only=True) if path.suffix == ".pth" else load_file(path)


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert set(one) == set(other)
    for key, tensor in one.items():
        assert (tensor.dtype, tensor.shape) == (other[key].dtype, other[key].shape), key
        assert torch.equal(tensor, other[key]), key


def export(path: Path, to: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [PROGRAM, "export", "--weights", path, "--to", to], cwd=ROOT, capture_output=True, text=True, check=False
    )


# What this program writes


def test_the_three_files_of_a_run_hold_the_same_tensors(trained: Path) -> None:
    pt, pth, safetensors = (open_in_python(trained / f"model.{ending}") for ending in FORMATS)
    assert_same(pt, pth)
    assert_same(pth, safetensors)
    expected = Net().state_dict()
    assert list(pt) == list(pth) == list(expected)
    assert len(expected) == 38
    assert type(pth) is dict
    assert not any(tensor.requires_grad for tensor in pth.values())
    assert pth["convblock1.2.num_batches_tracked"] == 50
    assert_same(torch.load(trained / "model.pth", weights_only=True, mmap=True), pth)


def test_safetensors_says_what_it_is(trained: Path) -> None:
    with safe_open(trained / "model.safetensors", framework="pt") as file:
        metadata = file.metadata()
    last = json_lines((trained / "metrics.jsonl").read_text())[-1]
    assert metadata["format"] == "pt"
    assert metadata["config"] == (trained / "config.toml").read_text()
    assert float(metadata["test_accuracy"]) == last["test_accuracy"]


def test_the_module_has_the_tree_of_the_original(trained: Path) -> None:
    module, original = torch.jit.load(trained / "model.pt", map_location="cpu"), Net()
    classes = [(name, child.original_name) for name, child in module.named_modules()]
    assert classes == [(name, type(child).__name__) for name, child in original.named_modules()]
    assert "(convblock7): RecursiveScriptModule(" in str(module)
    names = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    assert names == [name for name, _ in original.named_parameters()]
    assert len(names) == 20
    assert torch.jit.load(trained / "model.pt", map_location="meta").convblock8.state_dict()["0.weight"].is_meta


def test_the_module_computes_the_same_bits_and_trains_on(trained: Path) -> None:
    module, original = torch.jit.load(trained / "model.pt"), Net()
    original.load_state_dict(module.state_dict(), strict=True)
    images, labels = load_split(DATA / "mnist", train=True)
    x, y = normalise(images[:128]), labels[:128]

    assert not module.training
    original.eval()
    for _ in range(4):  # the first calls are observed, the later ones optimised
        assert torch.equal(module(x), original(x))

    assert not torch.equal(module.train()(x), module(x)), "dropout is off"
    assert torch.equal(module.eval()(x), module(x)), "dropout is on"

    module.load_state_dict(original.state_dict())
    before = original.convblock1[0].weight.detach().clone()
    losses = []
    for net in (module, original):
        net.train()
        torch.manual_seed(3)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
        for _ in range(3):
            optimizer.zero_grad()
            loss = F.nll_loss(net(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    # The same masks and steps, except for the rounding of a compiled backward pass.
    assert losses[0] == losses[3]
    assert losses[:3] == pytest.approx(losses[3:], rel=1e-3)
    for key, tensor in original.state_dict().items():
        torch.testing.assert_close(module.state_dict()[key], tensor, rtol=1e-3, atol=1e-4)
    assert not torch.equal(module.convblock1.state_dict()["0.weight"], before)
    assert original.state_dict()["convblock1.2.num_batches_tracked"] == 53


@pytest.mark.parametrize("ending", FORMATS)
def test_python_and_this_program_agree_in_every_bit(trained: Path, tmp_path: Path, ending: str) -> None:
    path = trained / f"model.{ending}"
    options = ["--data", DATA, "--device", "cpu", "--kernels", "torch", "--threads", 2, "--limit-test", 1000]
    tch_mnist("evaluate", "--weights", path, *options, "--log-probabilities", tmp_path / "rust.safetensors")
    original = Net()
    original.load_state_dict(open_in_python(path), strict=True)
    original.eval()
    images, _ = load_split(DATA / "mnist", train=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    with torch.no_grad():
        python = torch.cat([original(normalise(batch)) for batch in images[:1000].split(128)])
    torch.set_num_threads(threads)
    assert torch.equal(load_file(tmp_path / "rust.safetensors")["log_probabilities"], python)


def test_the_script_prints_the_line_that_evaluate_prints(trained: Path) -> None:
    files = [trained / f"model.{ending}" for ending in FORMATS]
    evaluated = tch_mnist("evaluate", "--data", DATA, "--device", "cpu", "--weights", files[0]).splitlines()[0]
    assert evaluated.startswith("Test set: Average loss: ")
    for file in files:
        assert script("load_weights.py", file, "--data", DATA).splitlines() == [evaluated]


# What Python writes

PYTHON_FILES: dict[str, Callable[[Net, Path], None]] = {
    "state_dict": lambda net, path: torch.save(net.state_dict(), path),
    "plain dict": lambda net, path: torch.save(dict(net.state_dict()), path),
    "protocol 4": lambda net, path: torch.save(net.state_dict(), path, pickle_protocol=4),
    "protocol 5": lambda net, path: torch.save(net.state_dict(), path, pickle_protocol=5),
    "with parameters": lambda net, path: torch.save(net.state_dict(keep_vars=True), path),
    "scripted": lambda net, path: torch.jit.script(net).save(path),
    "traced": lambda net, path: torch.jit.trace(net.eval(), torch.zeros(1, 1, 28, 28)).save(path),
    "safetensors": lambda net, path: save_file(net.state_dict(), path),
    "model": lambda net, path: torch.save({"epoch": 3, "model": net.state_dict(), "best": 0.994}, path),
    "state_dict in a dict": lambda net, path: torch.save({"state_dict": net.state_dict(), "tags": {"a", "b"}}, path),
    "model_state_dict": lambda net, path: torch.save(checkpoint(net), path),
    "DataParallel": lambda net, path: torch.save(nn.DataParallel(net).state_dict(), path),
    "compiled": lambda net, path: torch.save({f"_orig_mod.{k}": v for k, v in net.state_dict().items()}, path),
    "transposed": lambda net, path: torch.save({k: strided(v) for k, v in net.state_dict().items()}, path),
    "one storage": lambda net, path: torch.save(in_one_storage(net), path),
    "channels_last": lambda net, path: torch.save(net.to(memory_format=torch.channels_last).state_dict(), path),
    "counts in float": lambda net, path: torch.save({k: v.float() for k, v in net.state_dict().items()}, path),
    "reversed": lambda net, path: torch.save(dict(reversed(net.state_dict().items())), path),
}


def checkpoint(net: Net) -> dict:
    """The checkpoint of a training script: a net, an optimizer, a schedule and the generator's state."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    F.nll_loss(net(torch.randn(8, 1, 28, 28)), torch.arange(8)).backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [6, 12])
    return {
        "epoch": 3,
        "rng": torch.get_rng_state(),
        "model_state_dict": net.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "device": torch.device("cpu"),
    }


def strided(tensor: Tensor) -> Tensor:
    """The same values, the last dimension first in memory."""
    return tensor.movedim(-1, 0).contiguous().movedim(0, -1) if tensor.dim() > 1 else tensor


def in_one_storage(net: Net) -> dict[str, Tensor]:
    """Every float as a view of one long tensor."""
    floats = {key: tensor for key, tensor in net.state_dict().items() if tensor.is_floating_point()}
    views = torch.cat([tensor.flatten() for tensor in floats.values()]).split([t.numel() for t in floats.values()])
    return net.state_dict() | {key: view.view(floats[key].shape) for key, view in zip(floats, views, strict=True)}


@pytest.mark.parametrize("kind", PYTHON_FILES)
def test_what_python_writes_is_read(net: Net, tmp_path: Path, kind: str) -> None:
    twin = Net()
    twin.load_state_dict(net.state_dict())
    file, to = tmp_path / "python", tmp_path / "rust.pth"
    PYTHON_FILES[kind](twin, file)
    tch_mnist("export", "--weights", file, "--to", to)
    assert_same(torch.load(to, weights_only=True), twin.state_dict())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("ending", FORMATS)
def test_another_precision_is_converted_with_a_notice(
    net: Net, tmp_path: Path, dtype: torch.dtype, ending: str
) -> None:
    twin = Net()
    twin.load_state_dict(net.state_dict())
    twin.to(dtype)
    file, to = tmp_path / "python", tmp_path / "rust.pth"
    if ending == "pt":
        torch.jit.script(twin).save(file)
    else:
        (torch.save if ending == "pth" else save_file)(twin.state_dict(), file)
    done = export(file, to)
    assert done.returncode == 0, done.stderr
    name = str(dtype).removeprefix("torch.")
    assert len(done.stderr.splitlines()) == 1
    assert f"its {name} weights are converted to float32" in done.stderr
    assert_same(torch.load(to, weights_only=True), twin.float().state_dict())


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)


def test_what_does_not_fit_is_refused_in_one_sentence(net: Net, tmp_path: Path) -> None:
    state = net.state_dict()
    trace = tmp_path / "it-was-run"
    hostile = Hostile(f"touch {trace}")
    nan = state["convblock8.0.weight"].clone()
    nan[0, 0] = torch.nan
    large = {k: v.double() * 1e300 if k == "convblock8.0.weight" else v for k, v in state.items()}
    for content, expected in [
        (net, "an object of the Python class net.Net"),
        ({"model": net}, "an object of the Python class net.Net"),
        ({"model": state, "x": hostile}, "it calls posix.system, which no weights file needs; nothing of it was run"),
        (hostile, "it calls posix.system"),
        (
            nn.Linear(784, 10).state_dict(),
            "convblock1.0.weight is missing (the file holds 2 tensors, the first weight)",
        ),
        ({k: v for k, v in state.items() if k != "convblock8.0.weight"}, "convblock8.0.weight is missing"),
        (state | {"fc.weight": torch.zeros(1)}, "fc.weight is no tensor of it"),
        (state | {"convblock8.0.weight": torch.zeros(10, 14)}, "has the shape [10, 14], not [10, 14, 1, 1]"),
        (state | {"convblock8.0.weight": nan}, "convblock8.0.weight holds a number that is nan or infinite"),
        (large, "convblock8.0.weight holds a number that is nan or infinite"),
        (state | {"convblock8.0.weight": state["convblock8.0.weight"].long()}, "is of the type int64, not float32"),
        (torch.zeros(3), "it holds a tensor, not a state_dict"),
        ([state], "it holds a list, not a state_dict"),
    ]:
        file, to = tmp_path / "bad.pth", tmp_path / "out.pt"
        torch.save(content, file)
        done = export(file, to)
        assert done.returncode == 1
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"error: {file} ")
        assert expected in line
        assert not to.exists()
    torch.save(state, file, _use_new_zipfile_serialization=False)
    assert "it is a bare pickle, as torch.save wrote before version 1.6" in export(file, to).stderr
    assert not trace.exists()
