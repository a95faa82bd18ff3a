"""SOAP in PyTorch: Adam in the eigenbases of Shampoo's preconditioner (Vyas et al., 2024, arXiv 2409.11321)."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, optim

# The longest side of a matrix that is turned.
LONGEST_SIDE = 1024


class Soap(optim.Optimizer):
    """The twin of `--optimizer soap`, operation by operation, in the order of its rounding.

    A weight is a matrix with a row per output channel; a parameter of one dimension gets Adam. A side longer
    than `LONGEST_SIDE` is not turned.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 0.003,
        betas: tuple[float, float] = (0.95, 0.95),
        eps: float = 1e-8,
        precondition_frequency: int = 10,
        weight_decay: float = 0.01,
    ) -> None:
        self.betas, self.eps, self.precondition_frequency = betas, eps, precondition_frequency
        self.steps = torch.tensor(0.0)
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> None:
        """A step; after every `precondition_frequency` of them the bases follow the averages."""
        self.steps += 1
        for group in self.param_groups:
            for param in group["params"]:
                self.step_of(param, torch.tensor(group["lr"]), group["weight_decay"])
        if self.steps % self.precondition_frequency == 0:
            for state in self.state.values():
                self.refresh(state)

    def step_of(self, param: Tensor, lr: Tensor, weight_decay: float) -> None:
        """The step of one parameter."""
        state = self.state[param] or self.begin(param)
        beta1, beta2 = self.betas
        rate = lr / (1 - torch.pow(beta1, self.steps))
        bias_correction2_sqrt = (1 - torch.pow(beta2, self.steps)).sqrt()
        left, right = state.get("left_basis"), state.get("right_basis")
        grad = param.grad.flatten(1) if param.dim() > 1 else param.grad
        exp_avg, squares = state["exp_avg"], state["exp_avg_sq"]
        exp_avg.lerp_(grad, 1 - beta1)
        rotated = turned(left, grad, right)
        squares.mul_(beta2).addcmul_(rotated, rotated, value=1 - beta2)
        update = turned(left, exp_avg, right) / (squares.sqrt() / bias_correction2_sqrt + self.eps)
        update = turned(None if left is None else left.T, update, None if right is None else right.T)
        if weight_decay:
            param.mul_(1 - lr * weight_decay)
        param.sub_(update.view_as(param) * rate)
        if left is not None:
            state["left"].lerp_(grad @ grad.T, 1 - beta2)
        if right is not None:
            state["right"].lerp_(grad.T @ grad, 1 - beta2)

    def begin(self, param: Tensor) -> dict[str, Tensor]:
        """What is kept for a parameter, before its first step."""
        state = self.state[param]
        zeros = torch.zeros_like(param.flatten(1) if param.dim() > 1 else param)
        state["exp_avg"], state["exp_avg_sq"] = zeros.clone(), zeros.clone()
        if param.dim() > 1:
            for side, size in zip(["left", "right"], zeros.shape, strict=True):
                if size <= LONGEST_SIDE:
                    state[side], state[f"{side}_basis"] = torch.zeros(size, size), torch.eye(size)
        return state

    def refresh(self, state: dict[str, Tensor]) -> None:
        """The bases become the eigenvectors; later, one step of the power iteration brings them near."""
        for dim, side in enumerate(["left", "right"]):
            if side not in state:
                continue
            average, basis = state[side], state[f"{side}_basis"]
            if self.steps == self.precondition_frequency:
                basis.copy_(torch.linalg.eigh(average).eigenvectors.flip(1))
                continue
            product = average @ basis
            order = (basis * product).sum(0).argsort(descending=True)
            basis.copy_(torch.linalg.qr(product.index_select(1, order)).Q)
            state["exp_avg_sq"] = state["exp_avg_sq"].index_select(dim, order)


def turned(left: Tensor | None, matrix: Tensor, right: Tensor | None) -> Tensor:
    """`left.T @ matrix @ right`, without a side that is not turned."""
    matrix = matrix if left is None else left.T @ matrix
    return matrix if right is None else matrix @ right
