"""Net files in Python: read, written from a module, trained, and found in weights files."""

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import load_weights
import net_file
import numpy as np
import onnx
import onnxruntime
import print_net
import pytest
import reference
import torch
from common import ROOT, lists
from compare import read_losses
from conftest import DATA, NO_PICTURES, Both, call, tch_mnist
from load_weights import LOADERS, net_of
from mnist import load_split, normalise
from net import Net
from net_file import NetFileError
from nets_to_print import SEQUENTIAL, UNPRINTABLE, BasicExample, Functions, LeNet, Nested
from print_net import Unprintable
from print_net import net_of as text_of
from safetensors.torch import save_file
from torch import Tensor, nn

NETS = {path.stem: path.read_text() for path in sorted((ROOT / "nets").glob("*.txt"))}

# Every layer and form.
EVERYTHING = """
# Every layer and form; {this} is a comment.
stem: torch.nn.Conv2d(1, {width}, kernel_size=3, stride=(1, 2), padding=1, bias=False), LeakyReLU(0.1)
norm: BatchNorm2d({width}, eps=0.001, momentum=0.2)
pools: Sequential(
    MaxPool2d(kernel_size=2, stride=(2, 1), padding=1, ceil_mode=True),
    Sequential(GELU('tanh'), AvgPool2d((2, 3), 1, count_include_pad=False), Dropout2d({dropout})),
)
block.conv: Conv2d({width}, {width}, 3, dilation=(2, 1), groups=2)
block.act: SiLU()
0: Identity()
last: AdaptiveAvgPool2d((2, 1)), Flatten(), Linear(16, 12, bias=False), ReLU(), Dropout(p=.5), GELU()
fc: Sequential(Linear(12, 10))
end: LogSoftmax(dim=1)
"""
VALUES = {"width": 8, "dropout": 0.1}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small nets gain nothing from more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def images(count: int = 32) -> Tensor:
    return normalise(load_split(DATA, "mnist", train=False)[0][:count])


def outputs(net: nn.Module, training: bool = False) -> Tensor:
    torch.manual_seed(2)
    with torch.no_grad():
        return net.train(training)(images())


def assert_same(one: nn.Module, other: nn.Module) -> None:
    """The same names in the same order, the same bits, the same outputs."""
    ours, theirs = one.state_dict(), other.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    for training in [False, True]:
        assert torch.equal(outputs(one, training), outputs(other, training))


# Reading


@pytest.mark.parametrize("dropout", [0.05, 0.5])
def test_the_original_as_a_net_file_is_the_class_net(dropout: float) -> None:
    torch.manual_seed(1)
    net = net_file.read(NETS["original"], {"dropout": dropout})
    after = torch.rand(1)
    torch.manual_seed(1)
    expected = Net(dropout)
    # As many random numbers were drawn: the order of the images is the same too.
    assert torch.equal(after, torch.rand(1))
    assert net.training
    assert_same(net, expected)


def test_a_net_file_is_the_module_that_its_words_name() -> None:
    net = net_file.read(EVERYTHING, VALUES)
    names = ["stem", "norm", "pools", "block", "0", "last", "fc", "end"]
    assert [name for name, _ in net.named_children()] == names
    assert [name for name, _ in net.named_parameters() if name.startswith(("fc", "block", "stem"))] == [
        *["stem.0.weight", "block.conv.weight", "block.conv.bias", "fc.0.weight", "fc.0.bias"]
    ]
    expected = nn.Sequential(
        nn.MaxPool2d(2, stride=(2, 1), padding=1, ceil_mode=True),
        nn.Sequential(nn.GELU("tanh"), nn.AvgPool2d((2, 3), 1, count_include_pad=False), nn.Dropout2d(0.1)),
    )
    assert str(net.pools) == str(expected)
    assert str(net.norm) == str(nn.BatchNorm2d(8, eps=0.001, momentum=0.2))
    assert str(net.block.conv) == str(nn.Conv2d(8, 8, 3, dilation=(2, 1), groups=2))
    assert outputs(net).exp().sum(dim=1) == pytest.approx(torch.ones(32))


@pytest.mark.parametrize("name", NETS)
def test_the_first_line_of_a_net_states_its_parameters(name: str) -> None:
    net = net_file.read(NETS[name], {"dropout": 0.1})
    stated = re.fullmatch(r"# .*?([\d,]+) parameters\..*", NETS[name].splitlines()[0])[1]
    assert int(stated.replace(",", "")) == sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "it has no layers"),
        ("conv1", "line 1: expected a member such as `conv1: Conv2d(1, 16, 3)`; what print(net) shows"),
        ("Net(\n  (fc): Linear(in_features=784, out_features=10, bias=True)\n)", "line 1: expected a member"),
        ("\na: ReLU()\na: ReLU()", "line 3: a is there twice"),
        ("a.x: ReLU()\nb: ReLU()\na.y: ReLU()", "line 3: b comes between the layers of a"),
        ("a: ReLU()\na.x: ReLU()", "line 2: a is there twice"),
        ("training: ReLU()", "line 1: training cannot be a member of an nn.Module"),
        ("a b: ReLU()", "line 1: a b cannot be a member"),
        ("a:", "line 1: a has no layers"),
        ("a: Conv2d(1, 2, 3", "line 1: a: expected layers such as"),
        ("a: ReLU", "line 1: expected a layer such as ReLU(), found ReLU"),
        ("a: ReLU()) + (ReLU()", "line 1: expected a layer such as ReLU()"),
        ("a: Softsign()", "line 1: Softsign is not a layer of a net file: Conv2d, "),
        ("a: exit()", "line 1: exit is not a layer"),
        ("a: Conv2d(1, exit(), 3)", "line 1: exit() is not a number"),
        ("a: Conv2d(1, {width}, 3)", "line 1: the placeholder {width} has no value"),
        ("a: Conv2d(1, 16)", "line 1: Conv2d(1, 16): Conv2d.__init__() missing 1 required positional argument"),
        ("a: Conv2d(1, 16, 3, size=2)", "unexpected keyword argument 'size'"),
        ("a: Dropout(2)", "dropout probability has to be between 0 and 1"),
        ("a: ELU(alpha=0.5)", "ELU(alpha=0.5) cannot be in a net file: alpha is 1.0 there"),
        ("a: Conv2d(3, 10, 28)", "its layers do not fit images [N, 1, 28, 28]: Given groups=1"),
        ("a: Flatten(), Linear(784, 20)", "it has 20 outputs, not 10"),
    ],
)
def test_a_mistake_gets_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(NetFileError) as error:
        net_file.read(text)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_a_value_without_a_placeholder_gets_a_sentence() -> None:
    with pytest.raises(NetFileError, match="it has no placeholder {width}, for which a value is given"):
        net_file.read(NETS["mlp"], {"dropout": 0.1, "width": 3})
    with pytest.raises(NetFileError, match="line 1: wide is not a number"):
        net_file.read("a: Linear({n}, 10)", {"n": "wide"})


# Writing


def printed(module: nn.Module) -> list[str]:
    """The lines of the net file, which holds the module's weights and gives its outputs."""
    text, _ = text_of(module)
    return text.splitlines()


def test_the_class_net_becomes_the_net_file_of_the_original() -> None:
    text, ends_in_log_softmax = text_of(Net(0.05))
    assert ends_in_log_softmax
    one, other = net_file.read(text), net_file.read(NETS["original"], {"dropout": 0.05})
    assert str(one) == str(other)


def test_functions_become_layers_in_the_order_of_forward() -> None:
    assert printed(BasicExample()) == [
        "conv1: Conv2d(1, 32, 3)",
        "relu: ReLU()",
        "conv2: Conv2d(32, 64, 3)",
        "relu2: ReLU()",
        "max_pool2d: MaxPool2d(2)",
        "dropout1: Dropout(p=0.25)",
        "flatten: Flatten()",
        "fc1: Linear(9216, 128)",
        "relu3: ReLU()",
        "dropout2: Dropout()",
        "fc2: Linear(128, 10)",
    ]


def test_a_layer_without_weights_can_run_twice() -> None:
    lines = printed(LeNet())
    assert [line for line in lines if "Pool" in line] == ["pool: MaxPool2d(2)", "pool2: MaxPool2d(2)"]
    assert [line.partition(":")[0] for line in lines if "Linear" in line] == ["fc1", "fc2", "fc3"]


def test_every_function_keeps_its_arguments_and_takes_a_free_name() -> None:
    lines = printed(Functions())
    assert lines == [
        "conv: Conv2d(1, 4, (3, 5), stride=(1, 2), bias=False)",
        "relu: BatchNorm2d(4, momentum=0.2)",
        "relu2: ReLU()",
        "leaky_relu: LeakyReLU(negative_slope=0.2)",
        "gelu: GELU(approximate='tanh')",
        "dropout2d: Dropout2d(p=0.1)",
        "max_pool2d: MaxPool2d(2, stride=(2, 1), padding=1)",
        "silu: SiLU()",
        "dropout: Dropout()",
        "avg_pool2d: AvgPool2d(3, ceil_mode=True, count_include_pad=False)",
        "gelu2: GELU()",
        "relu3: ReLU()",
        "relu4: ReLU()",
        "adaptive_avg_pool2d: AdaptiveAvgPool2d((2, 1))",
        "flatten: Flatten()",
        "fc: Linear(8, 10)",
    ]


def test_containers_keep_the_names_of_the_state_dict() -> None:
    assert printed(Nested()) == [
        "features.0: Conv2d(1, 4, 3, bias=False), BatchNorm2d(4), ReLU(), MaxPool2d(2)",
        "features.1: Conv2d(4, 4, 1), ReLU()",
        "features.2.conv: Conv2d(4, 4, 1)",
        "features.2.relu: ReLU()",
        "features.3: ReLU()",
        "act: ReLU()",
        "flatten: Flatten()",
        "classifier.0: Linear(676, 20)",
        "classifier.relu: ReLU()",
        "classifier.1: Linear(20, 20)",
        "classifier.relu2: ReLU()",
        "classifier.2: Linear(20, 10)",
        "end: LogSoftmax(dim=1)",
    ]
    assert printed(SEQUENTIAL)[:2] == ["0: Flatten()", "1: Linear(784, 32)"]


@pytest.mark.parametrize("name", NETS)
def test_a_net_file_is_its_own_net_file(name: str) -> None:
    net = net_file.read(NETS[name], {"dropout": 0.1})
    again = net_file.read(text_of(net)[0])
    assert str(again) == str(net)


def test_a_net_file_with_everything_is_its_own_net_file() -> None:
    net = net_file.read(EVERYTHING, VALUES)
    again = net_file.read(text_of(net)[0])
    assert str(again) == str(net)


@pytest.mark.parametrize(("make", "sentence"), UNPRINTABLE)
def test_what_cannot_be_a_net_file_gets_a_sentence(make: object, sentence: str) -> None:
    with pytest.raises((Unprintable, NetFileError)) as error:
        text_of(make())
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_print_net_prints_a_file_of_a_module_with_arguments(tmp_path: Path) -> None:
    model = tmp_path / "model.py"
    # The module beside it has the name of one of our own.
    (tmp_path / "common.py").write_text("print('imported')\n")
    model.write_text("import common\n" + (ROOT / "tests/python/nets_to_print.py").read_text())
    command = [sys.executable, ROOT / "scripts/print_net.py", f"{model}:LeNet", "--args", "10", "padding=(2,2)"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"# {model}:LeNet: 61,706 parameters\nconv1: Conv2d(1, 6, 5, padding=2)\n")
    end = f"{model}:LeNet ends without log_softmax: the net file adds it, as CrossEntropyLoss does\n"
    assert done.stderr == f"imported\n{end}"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Net", "expected MODULE:NAME or FILE.py:NAME"),
        ("no_such_module:Net", "it cannot be imported: ModuleNotFoundError: No module named 'no_such_module'"),
        ("no_such_file.py:Net", "it cannot be imported: FileNotFoundError"),
        ("net:Nets", "it cannot be imported: AttributeError: module 'net' has no attribute 'Nets'"),
        ("net:block", "it cannot be built: TypeError: block() missing 3 required positional arguments"),
        ("pathlib:Path", "it is a PosixPath, not an nn.Module"),
        ("nets_to_print:UNPRINTABLE", "it cannot be built: TypeError: 'list' object is not callable"),
        ("nets_to_print:split_sequential", "relu comes between the layers of pair"),
    ],
)
def test_print_net_says_what_is_wrong(name: str, sentence: str) -> None:
    out, _, error = call(print_net.main, name)
    assert out == ""
    assert error.startswith(f"error: {name}: {sentence}")


# Weights


def save_with_text(net: nn.Module, text: str, path: Path) -> None:
    """Weights with the text of their net, where the program writes it."""
    state = net.state_dict()
    match path.suffix:
        case ".safetensors":
            save_file(state, path, metadata={"net": text})
        case ".onnx":
            one, other = (onnx.helper.make_tensor_value_info(name, 1, [1]) for name in "xy")
            graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "net", [one], [other])
            model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 22)], ir_version=10)
            onnx.helper.set_model_props(model, {"net": text})
            onnx.save(model, path)
        case ".npz":
            np.savez(path, **{key: tensor.numpy() for key, tensor in state.items()})
            with zipfile.ZipFile(path, "a") as archive:
                archive.comment = json.dumps({"net": text}).encode()
        case ".pth":
            torch.save(state, path)
            with zipfile.ZipFile(path, "a") as archive:
                archive.writestr("model/extra/tch_mnist.json", json.dumps({"net": text}))


@pytest.mark.parametrize("ending", [".safetensors", ".pth", ".npz", ".onnx"])
def test_weights_say_their_net(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"model{ending}"
    net = net_file.read(NETS["lenet5"])
    save_with_text(net, NETS["lenet5"], path)
    assert str(net_of(path, {})) == str(net)
    if ending != ".onnx":
        assert torch.equal(outputs(LOADERS[ending](path)), outputs(net))


def test_weights_that_do_not_say_their_net_are_told_apart_by_their_shapes(tmp_path: Path) -> None:
    for net in [Net(), *(net_file.read(text, {"dropout": 0}) for text in NETS.values())]:
        path = tmp_path / "model.pth"
        torch.save(net.state_dict(), path)
        assert torch.equal(outputs(LOADERS[".pth"](path)), outputs(net))


def test_net_names_the_net_of_weights_that_do_not_say_it(tmp_path: Path) -> None:
    path, file = tmp_path / "model.npz", tmp_path / "net.txt"
    file.write_text("fc: Flatten(), Linear(784, {width}), Linear({width}, 10)\n")
    net = net_file.load(file, {"width": 3})
    np.savez(path, **{key: tensor.numpy() for key, tensor in net.state_dict().items()})
    out, _, _ = call(load_weights.main, path, "--data", DATA, "--net", file, "--net-values", "width=3")
    assert "Accuracy: " in out
    sentence = f"error: {path} cannot be opened: its {{}} is not as in the net: name the right one by --net FILE"
    error = call(load_weights.main, path, "--data", DATA)[2]
    assert error == sentence.format("convblock1.0.weight")
    error = call(load_weights.main, path, "--data", DATA, "--net", file, "--net-values", "width=4")[2]
    assert error == sentence.format("fc.1.weight")
    assert "model.pt has the net's layers" in call(load_weights.main, "model.pt", "--net", file)[1]
    assert "--net-values goes with --net FILE" in call(load_weights.main, path, "--net-values", "width=3")[1]


def test_the_page_opens_the_weights_of_any_net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(import sys.*?)```", (ROOT / "docs/python.md").read_text(), re.S)
    net = net_file.read(NETS["lenet5"])
    save_with_text(net, NETS["lenet5"], tmp_path / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    names: dict = {}
    exec(code, names)
    assert_same(names["net"], net)


# Training

# Three steps per epoch, the last one on 64 images.
SLICE = ["--limit-train", 320, "--limit-test", 150, "--epochs", 2, "--threads", 1]


def test_the_twin_trains_the_original_from_its_file_to_the_same_bits(tmp_path: Path) -> None:
    options = [
        "--data",
        DATA,
        "--device",
        "cpu",
        "--limit-train",
        256,
        "--limit-test",
        100,
        "--epochs",
        1,
        "--threads",
        1,
    ]
    one, _, _ = call(reference.main, *options, "--out", tmp_path / "class")
    other, _, _ = call(reference.main, *options, "--net", ROOT / "nets/original.txt", "--out", tmp_path / "file")
    assert one == other
    assert one.startswith("EPOCH: 0\n")
    assert_same_bits(tmp_path / "class", tmp_path / "file")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--net", "nowhere.txt"], "error: --net nowhere.txt cannot be read: No such file or directory"),
        (["--net-values", "w1=8"], "error: --net original: there is a value for w1, but the net has no"),
        (["--net-values", "w1"], "error: --net-values takes NAME=VALUE,.., not w1"),
        (["--net-values", "dropout=0.1"], "error: --net-values cannot set dropout: --dropout does"),
    ],
)
def test_the_twin_refuses_a_wrong_net(options: list, sentence: str) -> None:
    out, err, error = call(reference.main, "--data", DATA, *options)
    assert out == ""
    assert error in (1, 2)
    assert sentence in err


def assert_same_bits(twin: Path, program: Path) -> None:
    """Every loss and every tensor."""
    assert read_losses(program) == read_losses(twin)
    expected = torch.load(twin / "model.pth", weights_only=True)
    got = torch.load(program / "model.pth", weights_only=True)
    assert list(got) == list(expected)
    assert [key for key in expected if not torch.equal(got[key], expected[key])] == []


@pytest.mark.parametrize("name", NETS)
def test_every_net_trains_to_the_bits_of_the_twin(both: Both, name: str) -> None:
    assert_same_bits(*both(*SLICE, "--net", ROOT / f"nets/{name}.txt", "--lr", 0.05))


@pytest.mark.parametrize("layer", lists()["layers"], ids=lambda layer: layer["name"])
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_the_example_of_every_layer_trains_and_is_exported_as_in_pytorch(
    tmp_path: Path, both: Both, layer: dict
) -> None:
    file = tmp_path / "net.txt"
    file.write_text(layer["example"])
    options = ["--limit-train", 640, "--limit-test", 100, "--epochs", 1, "--threads", 1]
    twin, program = both(*options, "--net", file)
    assert_same_bits(twin, program)
    net = net_file.read(layer["example"])
    net.load_state_dict(torch.load(twin / "model.pth", weights_only=True))
    expected = outputs(net.eval())
    assert torch.equal(outputs(torch.jit.load(program / "model.pt")), expected)
    with torch.no_grad():
        assert torch.equal(torch.export.load(program / "model.pt2").module()(images()), expected)
    session = onnxruntime.InferenceSession(program / "model.onnx")
    assert np.abs(session.run(None, {"images": images().numpy()})[0] - expected.numpy()).max() < 1e-5


def test_every_layer_trains_to_the_bits_of_the_twin(tmp_path: Path, both: Both) -> None:
    file = tmp_path / "net.txt"
    file.write_text(EVERYTHING)
    options = ["--net", file, "--net-values", "width=8", "--dropout", 0.1, "--lr", 0.05]
    twin, program = both(*SLICE, *options)
    assert_same_bits(twin, program)
    net = net_file.read(EVERYTHING, VALUES)
    tch_mnist("export", "--weights", program / "model.pth", "--to", program / "model.npz")
    for ending in [".safetensors", ".pth", ".npz", ".pt"]:
        assert str(net_of(program / f"model{ending}", {})) == str(net)


def test_soap_leaves_a_long_side_as_the_twin_does(tmp_path: Path, both: Both) -> None:
    file = tmp_path / "net.txt"
    file.write_text("conv: Conv2d(1, 8, 3), ReLU(), MaxPool2d(2)\nend: Flatten(), Linear(1352, 10)\n")
    options = ["--net", file, "--optimizer", "soap", "--precondition-frequency", 2, "--threads", 1]
    assert_same_bits(*both(*SLICE, *options))


@pytest.mark.parametrize("module", [BasicExample, LeNet, Functions, Nested])
def test_the_program_trains_what_print_net_prints(tmp_path: Path, module: type[nn.Module]) -> None:
    file = tmp_path / "net.txt"
    file.write_text(text_of(module())[0])
    options = ["--limit-train", 128, "--limit-test", 100, "--epochs", 1, "--device", "cpu"]
    out = tmp_path / "run"
    tch_mnist("train", "-q", "--data", DATA, *options, *NO_PICTURES, "--net", file, "--out", out)
    module().load_state_dict(torch.load(out / "model.pth", weights_only=True), strict=True)
