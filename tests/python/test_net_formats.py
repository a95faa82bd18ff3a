"""The formats that contain layers, for nets of every kind: each file computes what the net does in PyTorch."""

from pathlib import Path

import net_file
import onnx
import onnxruntime
import pytest
import torch
from common import ROOT
from conftest import DATA, tch_mnist
from load_weights import LOADERS, metadata
from torch import Tensor, nn

# PyTorch 2.11 warns of every use of TorchScript, which is one of the formats here.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")

NETS = {
    "layers": """
        stem: Conv2d(1, 8, (3, 5), stride=(1, 2), padding=(1, 0)), LeakyReLU(0.2)
        norm: BatchNorm2d(8, eps=0.001, momentum=0.3)
        features: Sequential(
            Sequential(Conv2d(8, 8, 3, dilation=(2, 1), groups=2, bias=False), BatchNorm2d(8), SiLU(), Dropout2d(0.3)),
            Sequential(Conv2d(8, 6, 3, padding=1, groups=2), Sequential(GELU('tanh'), LeakyReLU())),
        )
        block.act: GELU()
        block.norm: BatchNorm2d(6, eps=1e-07)
        skip: Identity()
        gap: AdaptiveAvgPool2d((6, 2)), ReLU(), Flatten()
        head: Linear(72, 16, bias=False), ReLU(), Dropout(0.4), Linear(16, 10)
        last: LogSoftmax(dim=1)
    """,
    "pools": """
        conv: Conv2d(1, 10, 3)
        max: MaxPool2d(3, 2, padding=1, ceil_mode=True), MaxPool2d((2, 1), 1, dilation=(2, 1))
        average: AvgPool2d(3, 1, padding=1), AvgPool2d(3, 1, padding=1, count_include_pad=False)
        ceil: AvgPool2d((3, 2), (2, 1), padding=1, ceil_mode=True), AvgPool2d(2, 2, ceil_mode=True)
        uneven: AdaptiveAvgPool2d((2, 5))
        end: AdaptiveAvgPool2d(1), LogSoftmax(dim=1)
    """,
    # The names of what the formats themselves add to a net, and names that differ in a dot alone.
    "names": """
        x: Conv2d(1, 2, 3), ReLU()
        images: MaxPool2d(2)
        view: Sequential(MaxPool2d(2))
        flatten: Flatten()
        a.b: Linear(72, 12)
        a_b: Linear(12, 12), ReLU()
        a_: Sequential(Linear(12, 12))
        weight: Linear(12, 12)
        log_probabilities: SiLU()
        log_softmax: Linear(12, 10)
    """,
    "sequential": """
        0: Flatten()
        1: Linear(784, 16)
        2: ReLU()
        3: Linear(16, 10)
    """,
    "original": (ROOT / "nets/original.txt").read_text().replace("{dropout}", "0.2"),
    "lenet5": (ROOT / "nets/lenet5.txt").read_text(),
}


@pytest.fixture(scope="module", params=NETS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run with a net, and its file beside it."""
    folder = tmp_path_factory.mktemp("nets")
    (folder / "net.txt").write_text(NETS[request.param])
    options = ["--epochs", 1, "--limit-train", 128, "--batch-size", 32, "--limit-test", 10, "--lr", 0.1, "--threads", 1]
    options += ["--kernels", "torch", "--report=false", "--tensorboard=false", "--device", "cpu", "-q"]
    tch_mnist("train", "--data", DATA, "--net", folder / "net.txt", "--out", folder / "run", *options)
    return folder / "run"


@pytest.fixture
def net(run: Path) -> nn.Module:
    """The net in PyTorch, with the weights of the run."""
    net = net_file.read((run.parent / "net.txt").read_text())
    net.load_state_dict(torch.load(run / "model.pth", weights_only=True), strict=True)
    return net.eval()


def batches() -> list[Tensor]:
    torch.manual_seed(5)
    return [torch.randn(count, 1, 28, 28) for count in (7, 1, 32)]


@torch.no_grad
def test_the_module_is_that_of_pytorch(run: Path, net: nn.Module) -> None:
    module = torch.jit.load(run / "model.pt")
    assert not module.training
    assert list(module.state_dict()) == list(net.state_dict())
    assert [name for name, _ in module.named_parameters()] == [name for name, _ in net.named_parameters()]
    # The original has a dropout layer too that it never calls.
    modules = {name: child.original_name for name, child in module.named_modules() if name != "dropout"}
    assert list(modules) == [name for name, _ in net.named_modules()]
    assert {name: modules[name] for name in leaves(net)} == {name: it.split("(")[0] for name, it in leaves(net).items()}
    for images in [*batches(), *batches()]:  # the first calls are observed, the later ones optimised
        assert torch.equal(module(images), net(images))
    # The same dropout, and the same statistics of BatchNorm afterwards.
    outputs = []
    for one in [module, net]:
        one.train()
        images = batches()
        torch.manual_seed(4)
        outputs.append([one(it) for it in images])
    assert all(map(torch.equal, *outputs))
    ours, theirs = module.state_dict(), net.state_dict()
    assert all(torch.equal(ours[key], tensor) for key, tensor in theirs.items())


def calls(program: torch.export.ExportedProgram) -> list:
    """The operators of a program with their arguments, nodes by their places.

    Without the last argument of batch_norm, which says whether the machine that wrote the program has cuDNN.
    """
    nodes = list(program.graph.nodes)
    arguments = [torch.fx.map_arg((node.args, node.kwargs), nodes.index) for node in nodes]
    called = [(str(it.target), *own) for it, own in zip(nodes, arguments, strict=True) if it.op == "call_function"]
    return [(target, args[:8] if "batch_norm" in target else args, kwargs) for target, args, kwargs in called]


@torch.no_grad
def test_the_exported_program_is_that_of_pytorch(run: Path, net: nn.Module) -> None:
    program = torch.export.load(run / "model.pt2")
    assert list(program.state_dict) == list(net.state_dict())
    module = program.module()
    for images in batches():
        assert torch.equal(module(images), net(images))
    expected = torch.export.export(net, (batches()[0],), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    assert calls(program) == calls(expected)
    one, other = program.graph_signature, expected.graph_signature
    assert list(one.parameters) == list(other.parameters)
    assert list(one.buffers) == list(other.buffers)


@torch.no_grad
def test_onnx_runtime_gives_the_same(run: Path, net: nn.Module) -> None:
    onnx.checker.check_model(onnx.load(run / "model.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(run / "model.onnx")
    for images in batches():
        (got,) = session.run(["log_probabilities"], {"images": images.numpy()})
        torch.testing.assert_close(torch.from_numpy(got), net(images), rtol=1e-5, atol=1e-5)


def leaves(net: nn.Module) -> dict[str, str]:
    """The layers of a net as PyTorch prints them."""
    return {name: str(child) for name, child in net.named_modules() if not [*child.children()]}


def test_every_file_carries_the_net(run: Path, net: nn.Module, tmp_path: Path) -> None:
    # No flag names the net on the way from ONNX through NumPy's arrays to TorchScript.
    tch_mnist("export", "--weights", run / "model.onnx", "--to", run / "model.npz")
    tch_mnist("export", "--weights", run / "model.npz", "--to", tmp_path / "model.pt")
    for ending in LOADERS:
        if not (run / f"model{ending}").exists():
            tch_mnist("export", "--weights", run / "model.pt", "--to", run / f"model{ending}")
    with torch.no_grad():
        assert torch.equal(torch.jit.load(tmp_path / "model.pt")(batches()[0]), net(batches()[0]))
    (text,) = {metadata(run / f"model{ending}")["net"] for ending in LOADERS}
    assert leaves(net_file.read(text)) == leaves(net)
