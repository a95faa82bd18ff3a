"""Modules as users write them, for `scripts/print_net.py`: those that can be net files, and below those that cannot."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BasicExample(nn.Module):
    """The net of PyTorch's basic MNIST example."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, 1)
        self.conv2 = nn.Conv2d(32, 64, 3, 1)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(9216, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Log-probabilities."""
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = self.dropout1(F.max_pool2d(x, 2))
        x = F.relu(self.fc1(torch.flatten(x, 1)))
        return F.log_softmax(self.fc2(self.dropout2(x)), dim=1)


class LeNet(nn.Module):
    """LeNet-5 as tutorials write it: one pool that runs twice, and logits."""

    def __init__(self, classes: int = 10, padding: int = 2) -> None:
        super().__init__()
        self.fc3 = nn.Linear(84, classes)
        self.fc2 = nn.Linear(120, 84)
        self.fc1 = nn.Linear(400, 120)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.conv1 = nn.Conv2d(1, 6, 5, padding=padding)
        self.pool = nn.MaxPool2d(kernel_size=2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = x.view(-1, 16 * 5 * 5)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


class Functions(nn.Module):
    """Every function that is a layer, with arguments in several forms."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.BatchNorm2d(4, momentum=0.2)
        self.conv = nn.Conv2d(1, 4, (3, 5), stride=(1, 2), groups=1, bias=False)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Log-probabilities."""
        x = F.leaky_relu(F.relu(self.relu(self.conv(x)), inplace=True), 0.2, inplace=True)
        x = F.dropout2d(F.gelu(x, approximate="tanh"), 0.1, self.training)
        x = F.dropout(F.silu(F.max_pool2d(x, 2, stride=(2, 1), padding=1)), training=self.training)
        x = torch.relu(F.gelu(F.avg_pool2d(x, 3, ceil_mode=True, count_include_pad=False))).relu()
        x = F.dropout(F.adaptive_avg_pool2d(x, (2, 1)), 0.5, training=False)
        x = x.view(x.size(0), -1).reshape(x.shape[0], 8)
        x = F.log_softmax(self.fc(F.avg_pool2d(x.view(-1, 4, 2, 1), 1).flatten(1) if False else x), -1)
        return x.view(-1, 10)


class Block(nn.Sequential):
    """A Sequential that does more than its layers."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Conv2d(inputs, outputs, 3, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """The layers, ReLU and pool."""
        return F.max_pool2d(F.relu(super().forward(x)), 2)


class NamedBlock(nn.Module):
    """A block with names of its own."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The convolution and ReLU."""
        return F.relu(self.conv(x))


class Nested(nn.Module):
    """Containers in containers, a list whose layers have functions between them, and a shared activation."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU()
        self.features = nn.Sequential(
            Block(1, 4), nn.Sequential(nn.Conv2d(4, 4, 1), self.act), NamedBlock(4, 4), self.act
        )
        self.classifier = nn.ModuleList([nn.Linear(676, 20), nn.Linear(20, 20), nn.Linear(20, 10)])
        self.end = nn.LogSoftmax(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Log-probabilities."""
        x = self.act(self.features(x)).flatten(1)
        for layer in self.classifier[:-1]:
            x = F.relu(layer(x))
        return self.end(self.classifier[-1](x))


SEQUENTIAL = nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.GELU(), nn.Identity(), nn.Linear(32, 10))


class Base(nn.Module):
    """Two convolutions, combined by `step`, and a layer after them."""

    def __init__(self, step: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.one = nn.Conv2d(1, 2, 3, padding=1)
        self.two = nn.Conv2d(2, 2, 3, padding=1)
        self.fc = nn.Linear(1568, 10)
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.fc(self.step(self, x).flatten(1))


def two(net: nn.Module, x: Tensor) -> Tensor:
    """Both convolutions."""
    return net.two(net.one(x))


def residual(net: nn.Module, x: Tensor) -> Tensor:
    """A residual connection."""
    x = net.one(x)
    return x + net.two(x)


def added_in_place(net: nn.Module, x: Tensor) -> Tensor:
    """Another residual connection."""
    x = net.one(x)
    y = net.two(x)
    y += x
    return y


def shortcut(net: nn.Module, x: Tensor) -> Tensor:
    """A residual connection with a layer on each path."""
    x = net.one(x)
    return net.two(x) + F.relu(x)


def control_flow(net: nn.Module, x: Tensor) -> Tensor:
    """What torch.fx cannot see through."""
    return two(net, -x if x.sum() > 0 else x)


def other_in_training(net: nn.Module, x: Tensor) -> Tensor:
    """Noise in training."""
    x = two(net, x)
    return F.relu(x) if net.training else x


def with_layer(layer: nn.Module) -> nn.Module:
    """The two convolutions and a layer."""
    base = Base(lambda net, x: net.layer(two(net, x)))
    base.layer = layer
    return base


def tied() -> nn.Module:
    """Two layers with one bias."""
    base = Base(two)
    base.two.bias = base.one.bias
    return base


def split_sequential() -> nn.Module:
    """A Sequential whose layers forward calls one by one."""
    base = Base(lambda net, x: net.pair[1](F.relu(net.pair[0](x))))
    base.pair = nn.Sequential(base.one, base.two)
    del base.one, base.two
    return base


def concatenated(net: nn.Module, x: Tensor) -> Tensor:
    """Two paths side by side."""
    x = net.one(x)
    return F.avg_pool2d(torch.cat([x, net.two(x)], dim=3), (1, 2))


def hooked() -> nn.Module:
    """A layer whose hook changes its output."""
    base = Base(two)
    base.two.register_forward_hook(lambda _module, _input, output: 2 * output)
    return base


def with_parameter() -> nn.Module:
    """A parameter outside of a layer."""
    base = Base(lambda net, x: two(net, x) * net.scale)
    base.scale = nn.Parameter(torch.ones(1))
    return base


# What cannot be a net file, with words of the sentence that says why.
UNPRINTABLE: list[tuple[Callable[[], nn.Module], str]] = [
    (
        lambda: Base(residual),
        "forward adds two tensors, as a residual connection does; a net file is a chain of layers",
    ),
    (lambda: Base(added_in_place), "forward adds two tensors, as a residual connection does"),
    (lambda: Base(concatenated), "forward concatenates tensors; a net file is a chain of layers"),
    (lambda: Base(lambda net, x: two(net, x) * net.one(x)), "forward uses the images more than once"),
    (lambda: Base(lambda net, x: net.one(x) + net.two(net.one(x))), "forward uses the images more than once"),
    (lambda: Base(shortcut), "forward uses the output of one more than once; a net file is a chain of layers"),
    (lambda: Base(lambda net, x: net.two(two(net, x))), "two is called twice; in a net file each layer has weights"),
    (lambda: Base(lambda net, x: net.one(x)), "forward never uses two; a net file has only layers that run"),
    (lambda: Base(lambda net, x: (net.one(x), net.two(net.one(x)))[0]), "forward never uses two"),
    (
        lambda: Base(lambda net, x: F.elu(two(net, x))),
        "forward calls elu, which is not a layer of a net file: these are Conv2d",
    ),
    (lambda: Base(lambda net, x: two(net, x)[:, :2]), "forward calls getitem, which is not a layer"),
    (lambda: Base(lambda net, x: two(net, x).view(-1, 2, 784)), "view makes"),
    (lambda: Base(control_flow), "torch.fx cannot trace forward: symbolically traced variables"),
    (lambda: Base(other_in_training), "forward runs other layers in training than in evaluation"),
    (
        lambda: Base(lambda net, x: F.dropout(two(net, x))),
        "F.dropout drops in evaluation too: give it training=self.training",
    ),
    (lambda: with_layer(nn.Softsign()), "layer is a Softsign, which is not a layer of a net file"),
    (
        lambda: with_layer(nn.BatchNorm2d(2, track_running_stats=False)),
        "layer: BatchNorm2d(track_running_stats=False) cannot be in a net file: track_running_stats is True there",
    ),
    (lambda: with_layer(nn.Softmax(dim=1)), "layer is a Softmax"),
    (lambda: with_layer(nn.ELU(0.5)), "alpha is 1.0 there"),
    (tied, "two of its layers share a parameter"),
    (split_sequential, "relu comes between the layers of pair, which must follow one another"),
    (hooked, "the net file gives other outputs than the module in evaluation mode"),
    (with_parameter, "forward uses scale outside of a layer"),
    (lambda: nn.Sequential(nn.Conv2d(3, 10, 28)), "forward does not take images [N, 1, 28, 28]"),
    (lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 20)), "it has 20 outputs, not 10"),
    (lambda: nn.Sequential(), "it has no layers"),
]
