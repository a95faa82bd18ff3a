"""The net of the original: 11,392 parameters."""

import torch.nn.functional as F
from torch import Tensor, nn


def block(inputs: int, outputs: int, dropout: float | None, padding: int = 0) -> nn.Sequential:
    """A 3x3 convolution, ReLU, BatchNorm and, except in the last block, dropout."""
    layers = [
        nn.Conv2d(inputs, outputs, kernel_size=(3, 3), padding=padding, bias=False),
        nn.ReLU(),
        nn.BatchNorm2d(outputs),
    ]
    if dropout is not None:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


def conv1x1(inputs: int, outputs: int) -> nn.Sequential:
    """A 1x1 convolution alone."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel_size=(1, 1), padding=0, bias=False))


class Net(nn.Module):
    """Maps images [N, 1, 28, 28] to log-probabilities [N, 10]."""

    def __init__(self, dropout: float = 0.05) -> None:
        super().__init__()
        self.convblock1 = block(1, 16, dropout)  # 26x26
        self.convblock2 = block(16, 32, dropout)  # 24x24
        self.convblock3 = conv1x1(32, 10)  # 24x24
        self.pool1 = nn.MaxPool2d(2, 2)  # 12x12
        self.convblock4 = block(10, 16, dropout)  # 10x10
        self.convblock5 = block(16, 12, dropout)  # 8x8
        self.convblock6 = block(12, 12, dropout)  # 6x6
        self.convblock7 = block(12, 14, None, padding=1)  # 6x6
        self.gap = nn.Sequential(nn.AvgPool2d(kernel_size=6))  # 1x1
        self.convblock8 = conv1x1(14, 10)  # 1x1
        self.dropout = nn.Dropout(0.1)  # the original has it too, and never calls it

    def forward(self, x: Tensor) -> Tensor:
        """Log-probabilities, as in the original."""
        x = self.convblock1(x)
        x = self.convblock2(x)
        x = self.convblock3(x)
        x = self.pool1(x)
        x = self.convblock4(x)
        x = self.convblock5(x)
        x = self.convblock6(x)
        x = self.convblock7(x)
        x = self.gap(x)
        x = self.convblock8(x)
        x = x.view(-1, 10)
        return F.log_softmax(x, dim=-1)
