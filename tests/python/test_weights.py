"""Weights between the program and Python, in both directions."""

import os
import subprocess
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import DATA, PROGRAM, script, tch_mnist
from net import Net
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

IMAGES = torch.randn(64, 1, 28, 28, generator=torch.Generator().manual_seed(7))


def refused(*args: object) -> str:
    """The one line with which the program refuses."""
    done = subprocess.run([str(part) for part in (PROGRAM, *args)], capture_output=True, text=True)
    assert done.returncode == 1, done.stdout
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def original(weights: dict[str, Tensor]) -> Net:
    """The original's net with these weights, in evaluation mode."""
    net = Net()
    net.load_state_dict(weights, strict=True)
    return net.eval()


@pytest.fixture(scope="module")
def net() -> Net:
    """A net whose running statistics have moved."""
    torch.manual_seed(3)
    net = Net()
    net(IMAGES)
    return net


def test_the_three_files_hold_the_same_tensors_in_the_order_of_the_original(trained: Path) -> None:
    module = torch.jit.load(trained / "model.pt", map_location="cpu")
    plain = torch.load(trained / "model.pth", weights_only=True)
    tensors = load_file(trained / "model.safetensors")
    assert type(plain) is dict
    expected = Net().state_dict()
    assert list(module.state_dict()) == list(plain) == list(expected)
    assert len(expected) == 38
    assert tensors.keys() == expected.keys()
    for key, tensor in plain.items():
        assert (tensor.dtype, tensor.shape) == (expected[key].dtype, expected[key].shape)
        assert torch.equal(tensor, tensors[key])
        assert torch.equal(tensor, module.state_dict()[key])


def test_safetensors_carries_format_settings_and_accuracy(trained: Path) -> None:
    with safe_open(trained / "model.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == "pt"
    assert "batch_size = 128" in metadata["config"]
    assert 0 < float(metadata["test_accuracy"]) <= 100


def test_the_module_has_the_tree_of_the_original(trained: Path) -> None:
    def tree(module: nn.Module) -> list[tuple[str, str]]:
        return [(name, getattr(child, "original_name", type(child).__name__)) for name, child in module.named_modules()]

    module = torch.jit.load(trained / "model.pt")
    assert tree(module) == tree(Net())
    assert "(convblock1): RecursiveScriptModule(\n    original_name=Sequential" in str(module)


def test_the_module_computes_and_switches_as_the_original(trained: Path) -> None:
    module = torch.jit.load(trained / "model.pt")
    net = original(torch.load(trained / "model.pth", weights_only=True))
    with torch.no_grad():
        for _ in range(3):
            assert torch.equal(module.eval()(IMAGES), net.eval()(IMAGES))
        outputs = []
        for each in (module.train(), net.train()):
            torch.manual_seed(5)
            outputs.append(each(IMAGES))
        assert torch.equal(*outputs)
    after = [each.state_dict() for each in (module, net)]
    assert all(torch.equal(after[0][key], after[1][key]) for key in after[1])


def test_the_module_trains_further_in_python(trained: Path) -> None:
    module = torch.jit.load(trained / "model.pt").train()
    net = original(torch.load(trained / "model.pth", weights_only=True)).train()
    labels = torch.arange(64) % 10
    for each in (module, net):
        torch.manual_seed(1)
        optimizer = torch.optim.SGD(each.parameters(), lr=0.1, momentum=0.9)
        assert len(list(each.parameters())) == 20
        for _ in range(3):
            optimizer.zero_grad()
            F.nll_loss(each(IMAGES), labels).backward()
            optimizer.step()
    # The same steps, but for the rounding of a compiled backward pass.
    for key, tensor in net.state_dict().items():
        torch.testing.assert_close(module.state_dict()[key], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.safetensors"])
def test_load_weights_counts_what_evaluate_counts(trained: Path, name: str) -> None:
    python = script("load_weights.py", trained / name, "--data", DATA)
    rust = tch_mnist("evaluate", "--data", DATA, "--weights", trained / name)
    assert rust.splitlines()[0] == python.strip()


def save_scripted(net: Net, path: Path) -> None:
    torch.jit.script(net).save(path)


def save_traced(net: Net, path: Path) -> None:
    torch.jit.trace(net.eval(), IMAGES).save(path)


def save_checkpoint(net: Net, path: Path) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    torch.save({"epoch": 3, "optimizer": optimizer.state_dict(), "model": net.state_dict()}, path)


def save_strided(net: Net, path: Path) -> None:
    strided = {key: t.t().contiguous().t() if t.dim() == 2 else t for key, t in net.state_dict().items()}
    strided["convblock1.0.weight"] = strided["convblock1.0.weight"].to(memory_format=torch.channels_last)
    shared = torch.cat([strided["convblock1.2.weight"], strided["convblock1.2.bias"]])
    strided["convblock1.2.weight"], strided["convblock1.2.bias"] = shared[:16], shared[16:]
    torch.save(strided, path)


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("state_dict.pth", lambda net, path: torch.save(net.state_dict(), path)),
        ("scripted.pt", save_scripted),
        ("traced.pt", save_traced),
        ("checkpoint.pt", save_checkpoint),
        ("wrapped.pth", lambda net, path: torch.save({"state_dict": net.state_dict()}, path)),
        ("strided.pth", save_strided),
        ("parameters.pth", lambda net, path: torch.save(net.state_dict(keep_vars=True), path)),
        ("file.safetensors", lambda net, path: save_file(net.state_dict(), path)),
    ],
)
def test_what_python_writes_is_read(tmp_path: Path, net: Net, name: str, save: object) -> None:
    save(net, tmp_path / name)
    tch_mnist("export", "--weights", tmp_path / name, "--to", tmp_path / "copy.pth")
    copy = torch.load(tmp_path / "copy.pth", weights_only=True)
    expected = net.state_dict()
    assert list(copy) == list(expected)
    assert all(torch.equal(copy[key], expected[key]) for key in expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_floats_are_converted_with_a_notice(tmp_path: Path, net: Net, dtype: torch.dtype) -> None:
    weights = {key: t.to(dtype) if t.is_floating_point() else t for key, t in net.state_dict().items()}
    torch.save(weights, tmp_path / "other.pth")
    command = [PROGRAM, "export", "--weights", tmp_path / "other.pth", "--to", tmp_path / "copy.pth"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "float32" in done.stderr
    copy = torch.load(tmp_path / "copy.pth", weights_only=True)
    assert all(torch.equal(copy[key], weights[key].to(copy[key].dtype)) for key in weights)


def test_what_does_not_fit_is_refused_by_name(tmp_path: Path, net: Net) -> None:
    weights = net.state_dict()
    key = "convblock4.0.weight"
    for change, reason in [
        ({key: None}, key),
        ({key: weights[key][:, :3].clone()}, "[16, 3, 3, 3]"),
        ({key: weights[key].long()}, "int64"),
        ({key: weights[key] * torch.nan}, "nan"),
        ({"fc.weight": torch.zeros(3)}, "fc.weight"),
    ]:
        changed = {name: tensor for name, tensor in {**weights, **change}.items() if tensor is not None}
        torch.save(changed, tmp_path / "changed.pth")
        message = refused("export", "--weights", tmp_path / "changed.pth", "--to", tmp_path / "copy.pth")
        assert "changed.pth" in message
        assert reason in message
        assert not (tmp_path / "copy.pth").exists()


def test_a_hostile_pickle_runs_nothing(tmp_path: Path, net: Net) -> None:
    mark = tmp_path / "it-ran"

    class Hostile:
        def __reduce__(self) -> tuple:
            return os.system, (f"touch {mark}",)

    for content in (Hostile(), {"model": net.state_dict(), "x": Hostile()}):
        torch.save(content, tmp_path / "hostile.pth")
        message = refused("evaluate", "--data", DATA, "--weights", tmp_path / "hostile.pth")
        assert "posix.system" in message
    assert not mark.exists()
