"""The weights of a run, opened in PyTorch, classify the test images as the program did."""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from mnist import load_split, normalise
from net import Net
from torch import Tensor

from gpu_checking import recipes
from gpu_checking.context import Context

# Rounding differs between a GPU and a CPU, and may decide about an image. The mean loss is in nats.
IMAGES, LOSS = 2, 1e-4


def of_state_dict(path: Path) -> Callable[[Tensor], Tensor]:
    """The net with the weights of a file."""
    net = Net()
    net.load_state_dict(torch.load(path, weights_only=True))
    return net.eval()


LOADERS: dict[str, Callable[[Path], Callable[[Tensor], Tensor]]] = {
    "model.pth": of_state_dict,
    "model.pt": lambda path: torch.jit.load(path).eval(),
    "model.pt2": lambda path: torch.export.load(path).module(),
}


def test_weights(context: Context, finding: Callable) -> None:
    """The formats that PyTorch reads by itself."""
    sizes = recipes.SLICE if context.quick else []
    run = context.train("original-seed-1", "--recipe", "original", *sizes, *context.captured, "--seed", 1)
    expected, expected_loss = run.done["correct"], run.done["test_loss"]
    images, labels = load_split(context.args.data, "mnist", train=False)
    count = recipes.TEST_SLICE if context.quick else len(labels)
    images, labels = normalise(images[:count]), labels[:count]
    for name, load in LOADERS.items():
        model = load(run.folder / name)
        with torch.no_grad():
            output = torch.cat([model(batch) for batch in images.split(500)])
        correct, loss = int((output.argmax(dim=1) == labels).sum()), float(F.nll_loss(output, labels))
        said = f"{correct} of {count} images correct, loss {loss:.6f}; in the program {expected}, {expected_loss:.6f}"
        kept = abs(correct - expected) <= IMAGES and abs(loss - expected_loss) <= LOSS
        finding(f"{name} opens in Python", said, kept)
