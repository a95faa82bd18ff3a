"""The program finds the device, libtorch and the data."""

from collections.abc import Callable

import torch

from gpu_checking.context import Context


def test_doctor(context: Context, finding: Callable) -> None:
    """What `doctor` says, beside what PyTorch says."""
    doctor = context.doctor
    libtorch = doctor["libtorch"]["version"]
    finding("libtorch is 2.11.0", libtorch, libtorch == "2.11.0", **doctor["libtorch"])
    cuda = doctor["cuda"]
    usable = "usable" if cuda["usable"] else f"not usable: {cuda['reason']}"
    promise = cuda["usable"] if context.on_gpu else None
    finding("CUDA is usable", f"{usable}; runtime {cuda['runtime']}, cuDNN {cuda['cudnn']}", promise, **cuda)
    if context.on_gpu:
        index = torch.device(context.args.device).index or 0
        found = next((it["name"] for it in cuda["devices"] if it["index"] == index), "none")
        finding("the GPU is the one that PyTorch sees", found, found == context.gpu)
    files = next(it["files"] for it in doctor["data"] if it["dataset"] == "mnist")
    good = sum(file["ok"] for file in files)
    finding("MNIST's files are as published", f"{good} of {len(files)}", good == len(files) == 4)
