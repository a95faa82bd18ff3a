"""Opens a weights file of `tch-mnist` in PyTorch, of any of the three formats, and measures it on MNIST's test images.

python scripts/load_weights.py runs/NAME/model.pth
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from mnist import load_split, locate, normalise
from net import Net
from safetensors.torch import load_file
from torch import Tensor


def load_state_dict(path: Path) -> dict[str, Tensor]:
    """Reads the parameters and buffers of a .pt (TorchScript), .pth (state_dict) or .safetensors file."""
    if path.suffix == ".pt":
        return torch.jit.load(path, map_location="cpu").state_dict()
    if path.suffix == ".pth":
        return torch.load(path, map_location="cpu", weights_only=True)
    return load_file(path)


def main() -> None:
    """Loads the file into the original's class and prints its line on the test images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="a .pt, .pth or .safetensors file")
    parser.add_argument("--data", type=Path, default=Path("data"), help="the folder with the IDX files (default: data)")
    parser.add_argument("--dataset", default="mnist", help="which dataset (default: mnist)")
    parser.add_argument("--batch-size", type=int, default=128, help="images a batch (default: 128)")
    args = parser.parse_args()

    net = Net()
    net.load_state_dict(load_state_dict(args.file), strict=True)
    net.eval()

    images, labels = load_split(locate(args.data, args.dataset), train=False)
    loss, correct = 0.0, 0
    with torch.no_grad():
        for x, y in zip(images.split(args.batch_size), labels.split(args.batch_size), strict=True):
            log_probabilities = net(normalise(x))
            loss += F.nll_loss(log_probabilities, y, reduction="sum").item()
            correct += int((log_probabilities.argmax(dim=1) == y).sum())

    n = len(labels)
    print(f"Test set: Average loss: {loss / n:.4f}, Accuracy: {correct}/{n} ({100 * correct / n:.2f}%)")


if __name__ == "__main__":
    main()
