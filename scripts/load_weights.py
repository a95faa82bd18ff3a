"""Opens a weights file of `tch-mnist` in Python, in any of its formats, and measures it on MNIST's test set.

python scripts/load_weights.py runs/NAME/model.pth
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mnist import load_split, locate, normalise
from net import Net
from safetensors.torch import load_file
from torch import Tensor

Model = Callable[[Tensor], Tensor]


def net_of(state_dict: dict[str, Tensor]) -> Model:
    """The original's class with these weights."""
    net = Net()
    net.load_state_dict(state_dict, strict=True)
    return net.eval()


def onnx_model(path: Path) -> Model:
    """A model that ONNX Runtime runs."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    return lambda images: torch.from_numpy(session.run(["log_probabilities"], {"images": images.numpy()})[0])


# Each maps normalised images [N, 1, 28, 28] to log-probabilities [N, 10].
LOADERS: dict[str, Callable[[Path], Model]] = {
    ".pt": lambda path: torch.jit.load(path).eval(),
    ".pth": lambda path: net_of(torch.load(path, weights_only=True)),
    ".safetensors": lambda path: net_of(load_file(path)),
    ".onnx": onnx_model,
    ".pt2": lambda path: torch.export.load(path).module(),
    ".npz": lambda path: net_of({key: torch.from_numpy(array) for key, array in np.load(path).items()}),
}


def main() -> None:
    """Loads the file and prints its line on the test set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help=f"a file that ends in {', '.join(LOADERS)}")
    parser.add_argument("--data", type=Path, default=Path("data"), help="the folder with the data (default: data)")
    parser.add_argument("--dataset", default="mnist", help="which dataset (default: mnist)")
    parser.add_argument("--batch-size", type=int, default=128, help="images per batch (default: 128)")
    args = parser.parse_args()
    if args.file.suffix not in LOADERS:
        parser.error(f"{args.file} does not end in {', '.join(LOADERS)}")

    model = LOADERS[args.file.suffix](args.file)
    images, labels = load_split(locate(args.data, args.dataset), train=False)
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
