"""Other libraries than PyTorch that train or evaluate the net: what `scripts/bench.py --peers PYTHON` sets beside it.

PYTHON runs this file; it needs NumPy and the library. A process speaks as those of `twins.py` do: it prints
{"event":"ready"}, then, for each line on stdin, measures a round and prints its seconds. The weights are the program's
own: `model.npz` for JAX, `model.onnx` for the others.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import ROOT, say
from idx import normalise, read_split

# The libraries by the name that Python imports, and what each measures.
PEERS = {"jax": "steps", "onnxruntime": "evaluate", "openvino": "evaluate"}

WARM_UP = 12


def jax(args: argparse.Namespace) -> Callable[[], object]:
    """A round of training steps over shuffled images."""
    # JAX has no call for the size of its thread pool.
    os.environ["NPROC"] = str(args.threads)
    import jax_net

    images, labels = read_split(args.data, "mnist", train=True)
    trainer = jax_net.Trainer(args.weights / "model.npz", normalise(images), labels.astype(np.int32))
    order = np.random.default_rng(1).permutation(len(labels))
    batches = [order[i : i + args.batch_size] for i in range(0, len(order) - args.batch_size + 1, args.batch_size)]

    def steps(count: int = args.steps) -> None:
        for i in range(count):
            trainer.step(batches[i % len(batches)])

    steps(WARM_UP)
    return steps


def onnxruntime(args: argparse.Namespace) -> Callable[[np.ndarray], np.ndarray]:
    """The net from images [N, 1, 28, 28] to log-probabilities [N, 10], in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(str(args.weights / "model.onnx"), options, providers=providers)
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def openvino(args: argparse.Namespace) -> Callable[[np.ndarray], np.ndarray]:
    """The same in OpenVINO, in float32 as everybody else."""
    import openvino

    config = {"INFERENCE_NUM_THREADS": args.threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.compile_model(args.weights / "model.onnx", "CPU", config).create_infer_request()
    # The images are read where they lie; the output is a view that the next batch overwrites.
    return lambda images: request.infer([images], share_inputs=True, share_outputs=True)[0]


def evaluation(forward: Callable[[np.ndarray], np.ndarray], args: argparse.Namespace) -> Callable[[], object]:
    """The loss and the count of correct answers over the test images, in batches that lie ready."""
    images, labels = read_split(args.data, "mnist", train=False)
    images, labels = normalise(images), labels.astype(np.int64)
    ends = range(0, len(labels), args.batch_size)
    batches = [(images[i : i + args.batch_size], labels[i : i + args.batch_size]) for i in ends]

    def evaluate() -> tuple[float, int]:
        loss, correct = 0.0, 0
        for x, y in batches:
            output = forward(x)
            loss -= float(np.take_along_axis(output, y[:, None], 1).sum())
            correct += int((output.argmax(1) == y).sum())
        return loss / len(labels), correct

    return evaluate


def main() -> None:
    """Measures a round for every line on stdin."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--way", choices=PEERS, required=True)
    parser.add_argument("--what", choices=["steps", "evaluate"], required=True)
    parser.add_argument("--weights", type=Path, required=True, help="the folder with model.npz and model.onnx")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--device", choices=["cpu"], default="cpu")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--data", type=Path, default=ROOT / "data")
    args = parser.parse_args()
    args.threads = args.threads or len(os.sched_getaffinity(0))
    prepare = {"jax": jax, "onnxruntime": onnxruntime, "openvino": openvino}[args.way]
    if args.what != PEERS[args.way]:
        parser.error(f"{args.way} measures {PEERS[args.way]}, not {args.what}")
    measured = prepare(args)
    if args.what == "evaluate":
        measured = evaluation(measured, args)
        loss, correct = measured()
        say("ready", loss=loss, correct=correct)
    else:
        say("ready")
    for _ in sys.stdin:
        began = time.perf_counter()
        measured()
        say("round", what=args.what, seconds=time.perf_counter() - began)


if __name__ == "__main__":
    main()
