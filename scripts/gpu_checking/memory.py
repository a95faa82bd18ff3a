"""A run that has too little memory ends with one sentence that says what to do."""

import os
import resource
from collections.abc import Iterator

from gpu_checking.context import Context
from gpu_checking.findings import Finding

BATCH = 20000

# On a GPU: the share of its memory that the program may take. On a CPU: bytes of address space.
SHARE = "per_process_memory_fraction:0.01"
ADDRESS_SPACE = 6 << 30


def check(context: Context) -> Iterator[Finding]:
    """Batches that do not fit."""
    flags = context.flags("too-large", "--batch-size", BATCH, "--limit-train", 2 * BATCH, "--epochs", 1)
    if context.on_gpu:
        done = context.run(*flags, env={**os.environ, "PYTORCH_ALLOC_CONF": SHARE})
    else:
        limit = (ADDRESS_SPACE, ADDRESS_SPACE)
        done = context.run(*flags, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limit))
    lines = done.stderr.strip().splitlines()
    said = lines[-1] if lines else "nothing was said"
    kept = done.returncode == 1 and len(lines) == 1 and f"too little memory for --batch-size {BATCH}" in said
    yield Finding("too little memory is one sentence", said, kept, {"exit_code": done.returncode})
