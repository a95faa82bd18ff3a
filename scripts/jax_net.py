"""The net of the original in JAX, and a training step of it: one jitted function, channels last.

The tensors have the names of PyTorch's state_dict; convolutions are [height, width, in, out].
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

# The blocks of 3x3 convolution, ReLU, BatchNorm and dropout, and the padding of the convolution.
BLOCKS = {"convblock1": 0, "convblock2": 0, "convblock4": 0, "convblock5": 0, "convblock6": 0, "convblock7": 1}
DROPOUT = {name: 0.05 for name in BLOCKS} | {"convblock7": 0.0}
LR, MOMENTUM = 0.01, 0.9  # of SGD

Tensors = dict[str, Array]


def load(file: Path) -> tuple[Tensors, Tensors]:
    """The weights, and BatchNorm's running statistics, from a state_dict as `.npz`."""
    tensors = {}
    for name, value in np.load(file).items():
        tensors[name] = jnp.array(value.transpose(2, 3, 1, 0) if value.ndim == 4 else value)
    running = {name: value for name, value in tensors.items() if ".running_" in name}
    return {name: value for name, value in tensors.items() if name.endswith((".weight", ".bias"))}, running


def convolution(x: Array, weight: Array, padding: int = 0) -> Array:
    """`Conv2d(bias=False)` of x [N, H, W, C]."""
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, weight, (1, 1), [(padding, padding)] * 2, dimension_numbers=layout)


def batch_norm(x: Array, name: str, weights: Tensors, running: Tensors) -> tuple[Array, Tensors]:
    """`BatchNorm2d` in training, and its running statistics after it."""
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    count = x.size // x.shape[-1]
    seen = {f"{name}.running_mean": mean, f"{name}.running_var": variance * (count / (count - 1))}
    after = {key: running[key] + 0.1 * (value - running[key]) for key, value in seen.items()}
    return (x - mean) * (lax.rsqrt(variance + 1e-5) * weights[f"{name}.weight"]) + weights[f"{name}.bias"], after


def dropout(x: Array, p: float, key: Array) -> Array:
    """`Dropout(p)` in training."""
    return jnp.where(jax.random.bernoulli(key, 1 - p, x.shape), x / (1 - p), 0) if p else x


def forward(weights: Tensors, running: Tensors, x: Array, key: Array) -> tuple[Array, Tensors]:
    """Log-probabilities [N, 10] of images [N, 28, 28, 1] in training, and the running statistics after it."""
    after = {}
    for name, own in zip(BLOCKS, jax.random.split(key, len(BLOCKS)), strict=True):
        x = jax.nn.relu(convolution(x, weights[f"{name}.0.weight"], BLOCKS[name]))
        x, statistics = batch_norm(x, f"{name}.2", weights, running)
        after |= statistics
        x = dropout(x, DROPOUT[name], own)
        if name == "convblock2":
            x = convolution(x, weights["convblock3.0.weight"])
            x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = convolution(x.mean((1, 2), keepdims=True), weights["convblock8.0.weight"])
    return jax.nn.log_softmax(x.reshape(-1, 10)), after


def step(state: tuple, images: Array, labels: Array, chosen: Array) -> tuple[tuple, Array]:
    """One step of SGD on the images `chosen`: the state after it and its loss."""
    weights, running, buffers, key = state
    key, own = jax.random.split(key)

    def nll_loss(weights: Tensors) -> tuple[Array, Tensors]:
        log_probabilities, after = forward(weights, running, images[chosen], own)
        return -jnp.take_along_axis(log_probabilities, labels[chosen, None], 1).mean(), after

    (loss, running), gradients = jax.value_and_grad(nll_loss, has_aux=True)(weights)
    buffers = jax.tree.map(lambda buffer, gradient: MOMENTUM * buffer + gradient, buffers, gradients)
    weights = jax.tree.map(lambda weight, buffer: weight - LR * buffer, weights, buffers)
    return (weights, running, buffers, key), loss


class Trainer:
    """The state of a training on images [N, 1, 28, 28] and labels [N] in memory."""

    def __init__(self, file: Path, images: np.ndarray, labels: np.ndarray) -> None:
        weights, running = load(file)
        self.images, self.labels = jnp.array(images.transpose(0, 2, 3, 1)), jnp.array(labels)
        self.state = (weights, running, jax.tree.map(jnp.zeros_like, weights), jax.random.key(1))
        self.compiled = jax.jit(step, donate_argnums=0)

    def step(self, chosen: np.ndarray) -> float:
        """Trains on the images `chosen` and returns the loss."""
        self.state, loss = self.compiled(self.state, self.images, self.labels, chosen)
        return float(loss)
