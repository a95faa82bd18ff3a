"""A run that has too little memory ends with one sentence that says what to do."""

import os
import resource
from collections.abc import Callable

from gpu_checking.context import Context, last_line

BATCH = 20000

# On a GPU: the share of its memory that the program may take. On a CPU: bytes of address space.
SHARE = "per_process_memory_fraction:0.01"
ADDRESS_SPACE = 6 << 30


def test_memory(context: Context, finding: Callable) -> None:
    """Batches that do not fit."""
    flags = context.flags("too-large", "--batch-size", BATCH, "--limit-train", 2 * BATCH, "--epochs", 1)
    if context.on_gpu:
        done = context.run(*flags, env={**os.environ, "PYTORCH_ALLOC_CONF": SHARE})
    else:
        limit = (ADDRESS_SPACE, ADDRESS_SPACE)
        done = context.run(*flags, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limit))
    said = last_line(done.stderr)
    kept = (
        done.returncode == 1 and done.stderr.count("\n") == 1 and f"too little memory for --batch-size {BATCH}" in said
    )
    finding("too little memory is one sentence", said, kept, exit_code=done.returncode)
