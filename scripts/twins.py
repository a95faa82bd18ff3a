"""PyTorch's ways to train the net, one a process: what `scripts/bench.py` sets beside this program.

A process speaks as `tch-mnist bench --on-request --log-format json` does: it prints {"event":"ready"}, then, for each
line on stdin, measures a round and prints its seconds.
"""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from common import ROOT, say
from mnist import load_split, normalise
from net import Net
from reference import Images, nothing, test, train
from torch import Tensor, optim
from torch.utils.data import DataLoader

WARM_UP = 12


class Twin:
    """The net, its optimizer and the data in memory, on one device, trained in one of PyTorch's ways."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        torch.manual_seed(1)
        self.net = Net().to(args.device)
        if args.way == "channels-last":
            self.net.to(memory_format=torch.channels_last)
        images, labels = load_split(args.data, "mnist", train=True)
        self.images = normalise(images).to(args.device)
        self.labels = labels.to(args.device)
        # A graph reads the rate from a tensor, and only the fused form of SGD leaves it on the GPU.
        graph = args.way == "cuda-graph"
        lr = torch.tensor(0.01, device=args.device) if graph else 0.01
        self.optimizer = optim.SGD(self.net.parameters(), lr=lr, momentum=0.9, fused=graph or None)
        self.compiled = self.compile()

    def compile(self) -> Callable[[Tensor], Tensor]:
        """The net, compiled where that is the way."""
        match self.args.way:
            case "compile":
                return torch.compile(self.net)
            case "reduce-overhead":
                return torch.compile(self.net, mode="reduce-overhead")
            case _:
                return self.net

    def step(self, chosen: Tensor) -> Tensor:
        """One step of the original's train function on the images `chosen`, and its loss."""
        self.optimizer.zero_grad()
        loss = F.nll_loss(self.compiled(self.images[chosen]), self.labels[chosen])
        loss.backward()
        self.optimizer.step()
        return loss

    def capture(self) -> Callable[[Tensor], Tensor]:
        """The step as a replayed `torch.cuda.CUDAGraph`, as PyTorch's notes on whole-network capture have it."""
        chosen = torch.arange(self.args.batch_size, device=self.args.device)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.step(chosen)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph):
            loss = self.step(chosen)

        def replay(indices: Tensor) -> Tensor:
            chosen.copy_(indices)
            graph.replay()
            return loss

        return replay

    def steps(self) -> Callable[[], None]:
        """A round of training steps over shuffled images."""
        self.net.train()
        step = self.capture() if self.args.way == "cuda-graph" else self.step
        # As a DataLoader draws it.
        order = torch.randperm(len(self.labels)).to(self.args.device).split(self.args.batch_size)
        batches = [order[i % (len(order) - 1)] for i in range(self.args.steps)]

        def steps() -> None:
            for chosen in batches:
                loss = step(chosen)
                # The original reads each loss for its bar. On a GPU that waits for the device: left out, in its favour.
                if self.args.device == "cpu":
                    loss.item()

        step(batches[0])
        say("ready")
        for chosen in batches[1:WARM_UP]:
            step(chosen)
        return steps

    def epoch(self) -> Callable[[], None]:
        """An epoch and its test, by the functions of `reference.py`."""
        splits = [Images(self.args.data, "mnist", train, limit=0) for train in [True, False]]
        loaders = [
            DataLoader(split, self.args.batch_size, shuffle=True, collate_fn=lambda batch: batch) for split in splits
        ]

        def epoch() -> None:
            # A compiled net shares its modules with the plain one, which is what is switched to training and back.
            train(self.net, self.args.device, loaders[0], self.optimizer, nothing, [])
            test(self.net, self.args.device, loaders[1])

        say("ready")
        return epoch

    def evaluate(self) -> Callable[[], None]:
        """The test images, in batches that lie ready."""
        images, labels = load_split(self.args.data, "mnist", train=False)
        images, labels = normalise(images).to(self.args.device), labels.to(self.args.device)
        self.net.eval()

        def evaluate() -> None:
            loss, correct = 0.0, 0
            with torch.no_grad():
                for x, y in zip(images.split(self.args.batch_size), labels.split(self.args.batch_size), strict=True):
                    output = self.compiled(x)
                    loss += F.nll_loss(output, y, reduction="sum")
                    correct += (output.argmax(dim=1) == y).sum()
            float(loss), int(correct)

        evaluate()
        say("ready")
        return evaluate


def set_up(device: str, threads: int) -> None:
    """What all contenders share: the device, the threads, float32 throughout, the same bits each time."""
    if threads:
        torch.set_num_threads(threads)
    if device != "cpu":
        torch.cuda.set_device(torch.device(device).index or 0)
    # PyTorch rounds to TF32 in convolutions unless told otherwise.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True


def main() -> None:
    """Measures a round for every line on stdin."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ways = ["eager", "channels-last", "compile", "reduce-overhead", "cuda-graph"]
    parser.add_argument("--way", choices=ways, default="eager")
    parser.add_argument("--what", choices=["steps", "epoch", "evaluate"], default="steps")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--data", type=Path, default=ROOT / "data")
    args = parser.parse_args()
    set_up(args.device, args.threads)
    synchronize = torch.cuda.synchronize if args.device != "cpu" else contextlib.nullcontext
    measured = getattr(Twin(args), args.what)()
    for _ in sys.stdin:
        synchronize()
        began = time.perf_counter()
        measured()
        synchronize()
        say("round", what=args.what, seconds=time.perf_counter() - began)


if __name__ == "__main__":
    main()
