"""Weights between this program and PyTorch, in both directions."""

import argparse
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import load_weights
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from common import PROGRAM, ROOT
from conftest import DATA, NO_PICTURES, call, json_lines, script, tch_mnist
from load_weights import LOADERS
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
    images, labels = load_split(DATA, "mnist", train=True)
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
    images, _ = load_split(DATA, "mnist", train=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    with torch.no_grad():
        python = torch.cat([original(normalise(batch)) for batch in images[:1000].split(128)])
    torch.set_num_threads(threads)
    assert torch.equal(load_file(tmp_path / "rust.safetensors")["log_probabilities"], python)


def test_every_format_classifies_the_same_images_in_python_and_here(trained: Path, tmp_path: Path) -> None:
    expected = None
    for ending in LOADERS:
        file = trained / f"model{ending}"
        if not file.exists():
            file = tmp_path / file.name
            tch_mnist("export", "--weights", trained / "model.pth", "--to", file)
        evaluated = tch_mnist("evaluate", "--data", DATA, "--device", "cpu", "--weights", file).splitlines()[0]
        assert evaluated.startswith("Test set: Average loss: ")
        assert evaluated == (expected or evaluated)
        expected = evaluated
        assert script("load_weights.py", file, "--data", DATA).splitlines() == [evaluated]


def test_every_format_that_is_written_can_be_opened_in_python() -> None:
    formats = json.loads(tch_mnist("lists"))["formats"]
    assert {f".{form['endings'][0]}" for form in formats if form["endings"]} == set(LOADERS)


def all_images() -> Tensor:
    return normalise(load_split(DATA, "mnist", train=False)[0])


def test_onnx_gives_the_log_probabilities_of_torch(trained: Path) -> None:
    model = onnx.load(trained / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    properties = {property.key: property.value for property in model.metadata_props}
    assert properties["normalisation"].startswith("(byte / 255 - 0.1307) / 0.3081")
    assert {"config", "epochs", "test_accuracy"} < properties.keys()
    session = onnxruntime.InferenceSession(trained / "model.onnx")
    assert [(it.name, it.shape) for it in session.get_inputs()] == [("images", ["N", 1, 28, 28])]
    assert [(it.name, it.shape) for it in session.get_outputs()] == [("log_probabilities", ["N", 10])]
    images, net = all_images(), LOADERS[".pth"](trained / "model.pth")
    with torch.no_grad():
        expected = net(images).numpy()
    for batch, count in [(1, 100), (7, 700), (128, 10000)]:
        parts = [session.run(None, {"images": part.numpy()})[0] for part in images[:count].split(batch)]
        got = np.concatenate(parts)
        assert abs(got - expected[:count]).max() < 1e-5
        assert (got.argmax(1) == expected[:count].argmax(1)).all()


def test_an_exported_program_gives_the_bits_of_the_net(trained: Path) -> None:
    program = torch.export.load(trained / "model.pt2")
    images, net = all_images(), LOADERS[".pth"](trained / "model.pth")
    assert list(program.state_dict) == list(Net().state_dict())
    for count in [1, 7, 128, 1000, 10000]:
        with torch.no_grad():
            assert torch.equal(program.module()(images[:count]), net(images[:count]))
    assert torch.equal(program.module()(images[:7]), net(images[:7]))


def test_a_file_or_a_folder_that_does_not_exist_is_named(trained: Path, tmp_path: Path) -> None:
    done = export(trained / "model.pt", tmp_path / "none/model.pth")
    assert done.returncode == 1
    assert f"cannot be written: the folder {tmp_path / 'none'} does not exist" in done.stderr
    load = [sys.executable, ROOT / "scripts/load_weights.py", tmp_path / "none.pth"]
    done = subprocess.run(load, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"error: {tmp_path / 'none.pth'} cannot be opened: the file does not exist\n"


@pytest.mark.parametrize("ending", LOADERS)
def test_a_damaged_file_is_one_sentence_in_python(trained: Path, tmp_path: Path, ending: str) -> None:
    whole, damaged = trained / f"model{ending}", tmp_path / f"damaged{ending}"
    if not whole.exists():
        whole = tmp_path / f"whole{ending}"
        assert export(trained / "model.pth", whole).returncode == 0
    sentence = (
        f"error: {damaged} cannot be opened: it is not a whole {ending} file with a net for MNIST; "
        "write it again, by a run or by tch-mnist export"
    )
    for content in [whole.read_bytes()[:20000], b"not weights", b""]:
        damaged.write_bytes(content)
        assert call(load_weights.main, damaged, "--data", DATA)[2] == sentence
    if ending == ".pt2":  # PyTorch logs a traceback of its own.
        load = [sys.executable, ROOT / "scripts/load_weights.py", damaged]
        done = subprocess.run(load, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (1, sentence + "\n")


def test_another_model_is_one_sentence_in_python(tmp_path: Path) -> None:
    file = tmp_path / "other.pt"
    torch.jit.script(nn.Flatten()).save(file)
    sentence = f"error: {file} has outputs [1, 784] for one image, and a net for MNIST has [1, 10]"
    assert call(load_weights.main, file, "--data", DATA)[2] == sentence


def test_weights_are_opened_from_any_folder(trained: Path, tmp_path: Path) -> None:
    load = [sys.executable, ROOT / "scripts/load_weights.py", trained / "model.pth"]
    assert subprocess.run(load, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.startswith("Test set:")


def test_files_have_the_usual_mode(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    usual = (tmp_path / "usual").stat().st_mode
    for name in ["A.ONNX", "b.pth.tar", "c.CKPT", "d.npz"]:
        assert export(trained / "model.pt", tmp_path / name).returncode == 0
        assert (tmp_path / name).stat().st_mode == usual


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
    "before 1.6": lambda net, path: torch.save(net.state_dict(), path, _use_new_zipfile_serialization=False),
    "checkpoint before 1.6": lambda net, path: torch.save(checkpoint(net), path, _use_new_zipfile_serialization=False),
    "exported": lambda net, path: torch.export.save(exported(net), path),
    "npz": lambda net, path: save_npz(np.savez, np.asarray, net, path),
    "packed npz in Fortran order": lambda net, path: save_npz(np.savez_compressed, np.asfortranarray, net, path),
    "VarStore": lambda net, path: torch.jit.script(var_store(net)).save(path),
    "counts as [1]": lambda net, path: torch.save({k: torch.atleast_1d(v) for k, v in net.state_dict().items()}, path),
    "deep in lists": lambda net, path: torch.save({"folds": [{"best": {"net": net.state_dict()}}], "lr": 0.1}, path),
    "company": lambda net, path: torch.save(company(net), path),
    "a dict of its own class": lambda net, path: torch.save(MyDict(net.state_dict()), path),
}


class MyDict(dict):
    """As a training framework may have one."""


class Flat(nn.Module):
    """A module that only holds tensors."""

    def forward(self, x: Tensor) -> Tensor:
        """Does nothing."""
        return x


def var_store(net: Net) -> nn.Module:
    """What tch's `VarStore::save` writes: one module with bars for the dots."""
    flat = Flat()
    for key, tensor in net.state_dict().items():
        flat.register_buffer(key.replace(".", "|"), tensor)
    return flat


def exported(net: Net) -> torch.export.ExportedProgram:
    """The program of the net."""
    return torch.export.export(net.eval(), (torch.zeros(2, 1, 28, 28),))


def save_npz(save: Callable, array: Callable, net: Net, path: Path) -> None:
    """The state_dict for NumPy, under a name without an ending."""
    with path.open("wb") as file:
        save(file, **{key: array(tensor.numpy()) for key, tensor in net.state_dict().items()})


def company(net: Net) -> dict:
    """Weights with all kinds of Python objects beside them."""
    objects = {"args": argparse.Namespace(lr=0.01, out=Path("runs")), "best": np.float64(99.4), "kind": torch.float32}
    return objects | {"scores": np.arange(3.0), "weights": net.state_dict(), "loss": nn.NLLLoss(), "call": os.getpid}


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


@pytest.mark.parametrize("length", [1, 20, 21, 22, 100])
def test_the_length_of_a_name_does_not_matter(net: Net, tmp_path: Path, length: int) -> None:
    # torch writes the name of the file into the archive. The zip crate misread archives whose first entry has 76 bytes.
    file, to = tmp_path / ("n" * length), tmp_path / "rust.pth"
    torch.save(net.state_dict(), file)
    tch_mnist("export", "--weights", file, "--to", to)
    assert_same(torch.load(to, weights_only=True), net.state_dict())


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state_dict under a prefix."""
    return {prefix + key: tensor for key, tensor in state.items()}


@pytest.mark.parametrize("prefix", ["module._orig_mod.", "_orig_mod.module.", "model.", "net.backbone.", "ema_"])
def test_any_prefix_is_removed_and_the_rest_is_named(net: Net, tmp_path: Path, prefix: str) -> None:
    file, to = tmp_path / "file.ckpt", tmp_path / "rust.pth"
    others = {"n_averaged": torch.tensor(3), "criterion.weight": torch.ones(10)}
    torch.save({"state_dict": prefixed(prefix, net.state_dict()) | others}, file)
    done = export(file, to)
    notice = f"the prefix {prefix} is removed from its keys; left out: n_averaged, criterion.weight"
    assert done.stderr == f" WARN {file}: {notice}\n"
    assert_same(torch.load(to, weights_only=True), net.state_dict())


def test_missing_counts_are_0(net: Net, tmp_path: Path) -> None:
    file, to = tmp_path / "file.pth", tmp_path / "rust.pth"
    torch.save({key: tensor for key, tensor in net.state_dict().items() if "num_batches" not in key}, file)
    done = export(file, to)
    assert done.stderr.count("\n") == 1
    assert "it holds no num_batches_tracked: the count starts at 0" in done.stderr
    counts = {key: torch.tensor(0) for key in net.state_dict() if "num_batches" in key}
    assert_same(torch.load(to, weights_only=True), net.state_dict() | counts)


def test_of_several_sets_a_key_chooses(net: Net, tmp_path: Path) -> None:
    file, to = tmp_path / "file.pth", tmp_path / "rust.pth"
    other = {key: tensor * 2 for key, tensor in net.state_dict().items()}
    torch.save({"model": net.state_dict(), "ema": {"module": prefixed("net.", other)}, "best": net.state_dict()}, file)
    done = export(file, to)
    assert done.returncode == 1
    assert "it holds several sets of weights: model, ema.module.net; choose one by --key NAME" in done.stderr
    tch_mnist("export", "--weights", file, "--key", "ema.module.net", "--to", to)
    assert_same(torch.load(to, weights_only=True), other)
    options = ["--init", file, "--key", "model", "--lr", 1e-30, "--epochs", 1, "--limit-train", 128]
    tch_mnist("train", "-q", "--data", DATA, *options, *NO_PICTURES, "--limit-test", 100, "--out", tmp_path / "run")
    trained = torch.load(tmp_path / "run/model.pth", weights_only=True)
    assert torch.equal(trained["convblock1.0.weight"], net.state_dict()["convblock1.0.weight"])


def test_a_frozen_module_gets_a_sentence(net: Net, tmp_path: Path) -> None:
    file = tmp_path / "frozen.pt"
    torch.jit.freeze(torch.jit.script(net.eval())).save(file)
    assert "it is a frozen TorchScript module" in export(file, tmp_path / "rust.pth").stderr


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


class Subclass(torch.Tensor):
    """A tensor that torch.save calls a function of its own for."""


def test_what_does_not_fit_is_refused_in_one_sentence(net: Net, tmp_path: Path) -> None:
    state = net.state_dict()
    trace = tmp_path / "it-was-run"
    hostile = Hostile(f"touch {trace}")
    nan = state["convblock8.0.weight"].clone()
    nan[0, 0] = torch.nan

    def of_first(change: Callable[[torch.Tensor], object]) -> dict:
        return state | {"convblock1.0.weight": change(state["convblock1.0.weight"])}

    large = {k: v.double() * 1e300 if k == "convblock8.0.weight" else v for k, v in state.items()}
    for content, expected in [
        (net, "it is an object that net.Net would make in Python, and nothing is run here"),
        ({"model": net}, "it holds no tensors, only model: it depends on net.Net, which is not called here"),
        (hostile, "it is an object that posix.system would make"),
        (state | {"convblock1.0.weight": hostile}, "convblock1.0.weight cannot be read: it depends on posix.system"),
        (
            nn.Linear(784, 10).state_dict(),
            "convblock1.0.weight is missing (the file holds 2 tensors, the first weight)",
        ),
        ({k: v for k, v in state.items() if k != "convblock8.0.weight"}, "convblock8.0.weight is missing"),
        (state | {"fc.weight": torch.zeros(1)}, "fc.weight is not a tensor of the net"),
        (state | {"convblock8.0.weight": torch.zeros(10, 14)}, "has the shape [10, 14], not [10, 14, 1, 1]"),
        (state | {"convblock8.0.weight": nan}, "convblock8.0.weight holds a number that is nan or infinite"),
        (large, "convblock8.0.weight holds a number that is nan or infinite"),
        (state | {"convblock8.0.weight": state["convblock8.0.weight"].long()}, "has the type int64, not float32"),
        (torch.zeros(3), "it holds no named tensors"),
        (of_first(lambda weight: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)), "it is quantized: save its"),
        (of_first(torch.Tensor.to_sparse), "it is sparse: save its to_dense()"),
        (of_first(lambda weight: weight.to("meta")), "it is on the device meta and has no numbers"),
        (of_first(lambda weight: weight.to(torch.float8_e4m3fn)), "its numbers have a type that is not read"),
        (of_first(lambda weight: weight.as_subclass(Subclass)), "it is of a subclass of Tensor: save its"),
        (of_first(torch.Tensor.numpy), "it is a NumPy array: save torch.from_numpy of it"),
        (state | {"convblock1.2.running_var": -torch.ones(16)}, "running_var holds a number below 0"),
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
    torch.save(net, file, _use_new_zipfile_serialization=False)
    assert "it is an object that net.Net would make in Python" in export(file, to).stderr
    file.write_bytes(pickle.dumps(state))
    assert "it is a bare pickle, not a file of torch.save" in export(file, to).stderr
    assert not trace.exists()
