"""Opens a weights file of `tch-mnist` in Python, in any of its formats, and measures it on MNIST's test set.

python scripts/load_weights.py runs/NAME/model.pth
"""

import argparse
import base64
import json
import logging
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import net_file
import numpy as np
import torch
import torch.nn.functional as F
from common import ROOT
from mnist import load_split, normalise
from net import Net
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

# Maps normalised images [N, 1, 28, 28] to log-probabilities [N, 10].
Model = Callable[[Tensor], Tensor]


def metadata(path: Path) -> dict[str, str]:
    """What a weights file of the program says beside the weights; nothing where others wrote it."""
    match path.suffix:
        case ".safetensors":
            with safe_open(path, framework="pt") as file:
                return file.metadata() or {}
        case ".onnx":
            import onnxruntime

            return onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
        case ".html":
            return page(path)["metadata"]
        case ".npz":
            with zipfile.ZipFile(path) as archive:
                return json.loads(archive.comment or b"{}")
        case _ if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                records = [name for name in archive.namelist() if name.endswith("extra/tch_mnist.json")]
                # NumPy would list a record among the arrays: there it is the archive's comment.
                text = archive.read(records[0]) if records else archive.comment
                return json.loads(text) if text.startswith(b"{") else {}
        case _:
            return {}


def page(path: Path) -> dict:
    """What is in a page to draw digits on: metadata and tensors."""
    text = path.read_text().split('<script type="application/json" id="weights">')[1]
    return json.loads(text.split("</script>")[0])


def page_weights(path: Path) -> dict[str, Tensor]:
    """The state_dict in a page to draw digits on."""
    tensors = {}
    for tensor in page(path)["tensors"]:
        numbers = np.frombuffer(base64.b64decode(tensor["data"]), tensor["dtype"])
        tensors[tensor["key"]] = torch.from_numpy(numbers.copy()).view(tensor["shape"])
    return tensors


def net_of(path: Path, weights: dict[str, Tensor]) -> nn.Module:
    """The net that a weights file describes; else the first of those in nets/ that has weights of these shapes."""
    text = metadata(path).get("net")
    if text is not None:
        return net_file.read(text)
    own = [Net(), *(net_file.load(file, {"dropout": 0}) for file in sorted(net_file.NETS.glob("*.txt")))]
    return next((net for net in own if misfit(net, weights) is None), own[0])


def misfit(net: nn.Module, weights: dict[str, Tensor]) -> str | None:
    """The first key at which the weights are not those of the net."""
    expected = net.state_dict()
    shapes, own = ({key: tensor.shape for key, tensor in side.items()} for side in [weights, expected])
    return next((key for key in [*expected, *weights] if shapes.get(key) != own.get(key)), None)


def with_net(read: Callable[[Path], dict[str, Tensor]]) -> Callable[..., Model]:
    """A loader for a format that holds a state_dict: a net with its layers takes the weights."""

    def load(path: Path, net: nn.Module | None = None) -> Model:
        weights = read(path)
        net = net or net_of(path, weights)
        if key := misfit(net, weights):
            raise net_file.NetFileError(f"its {key} is not as in the net: name the right one by --net FILE")
        net.load_state_dict(weights)
        return net.eval()

    return load


def onnx_model(path: Path) -> Model:
    """A model that ONNX Runtime runs."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    return lambda images: torch.from_numpy(session.run(["log_probabilities"], {"images": images.numpy()})[0])


def exported_program(path: Path) -> Model:
    """A model that PyTorch runs, without the net's code."""
    # Of a damaged file it logs a traceback, and then raises another error.
    logging.getLogger("torch.export").setLevel(logging.ERROR)
    return torch.export.load(path).module()


# The formats that hold weights alone.
STATE_DICTS: dict[str, Callable[..., Model]] = {
    ".pth": with_net(lambda path: torch.load(path, weights_only=True)),
    ".safetensors": with_net(load_file),
    ".npz": with_net(lambda path: {key: torch.from_numpy(array) for key, array in np.load(path).items()}),
    ".html": with_net(page_weights),
}

# These run without the net's code.
LOADERS: dict[str, Callable[..., Model]] = STATE_DICTS | {
    ".pt": lambda path: torch.jit.load(path).eval(),
    ".onnx": onnx_model,
    ".pt2": exported_program,
}


def load(args: argparse.Namespace) -> Model:
    """The model in the file."""
    if not args.net:
        return LOADERS[args.file.suffix](args.file)
    # Dropout has no effect here, but a placeholder needs a value.
    net = net_file.load(args.net, {"dropout": 0} | args.net_values)
    return STATE_DICTS[args.file.suffix](args.file, net)


def open_model(args: argparse.Namespace) -> Model:
    """The model in the file, after a trial on one image; exits with a sentence if it is not one."""
    try:
        model = load(args)
        with torch.no_grad():
            shape = tuple(model(torch.zeros(1, 1, 28, 28)).shape)
    except net_file.NetFileError as error:
        sys.exit(f"error: {args.file} cannot be opened: {error}")
    except ImportError:
        raise
    # Each library has errors of its own for a damaged file.
    except Exception:
        sys.exit(
            f"error: {args.file} cannot be opened: it is not a whole {args.file.suffix} file with a net for MNIST; "
            "write it again, by a run or by tch-mnist export"
        )
    if shape != (1, 10):
        sys.exit(f"error: {args.file} has outputs {list(shape)} for one image, and a net for MNIST has [1, 10]")
    return model


def main() -> None:
    """Loads the file and prints its line on the test set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help=f"a file that ends in {', '.join(LOADERS)}")
    net_file.add_arguments(parser, "where the weights file does not say it")
    parser.add_argument("--data", type=Path, default=ROOT / "data", help="the folder with the data (default: data)")
    parser.add_argument("--dataset", default="mnist", help="which dataset (default: mnist)")
    parser.add_argument("--batch-size", type=int, default=128, help="images per batch (default: 128)")
    args = parser.parse_args()
    if args.file.suffix not in LOADERS:
        parser.error(f"{args.file} does not end in {', '.join(LOADERS)}")

    if args.net_values and not args.net:
        parser.error("--net-values goes with --net FILE")
    if args.net and args.file.suffix not in STATE_DICTS:
        parser.error(f"{args.file} has the net's layers; --net goes with {', '.join(STATE_DICTS)}")
    if not args.file.is_file():
        sys.exit(f"error: {args.file} cannot be opened: the file does not exist")
    model = open_model(args)
    images, labels = load_split(args.data, args.dataset, train=False)
    loss, correct = 0.0, 0
    with torch.no_grad():
        for x, y in zip(images.split(args.batch_size), labels.split(args.batch_size), strict=True):
            log_probabilities = model(normalise(x))
            loss += F.nll_loss(log_probabilities, y, reduction="sum").item()
            correct += int((log_probabilities.argmax(dim=1) == y).sum())

    n = len(labels)
    print(f"Test set: Average loss: {loss / n:.4f}, Accuracy: {correct}/{n} ({100 * correct / n:.2f}%)")


if __name__ == "__main__":
    main()
