"""The machine that is measured: its name, and how busy it is."""

import platform
from pathlib import Path

# If other processes use more than this share of the machine, measurements are not reliable.
QUIET = 0.05


def name(device: str) -> str:
    """The processor's name, or the GPU's."""
    if device != "cpu":
        import torch

        return torch.cuda.get_device_name(device)
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return models[0].split(":")[1].strip() if models else platform.machine()


def ticks() -> tuple[int, int]:
    """Clock ticks in which the cores were busy (or stolen), and all their clock ticks."""
    with open("/proc/stat") as file:
        user, nice, system, idle, iowait, irq, soft, steal = map(int, file.readline().split()[1:9])
    busy = user + nice + system + irq + soft + steal
    return busy, busy + idle + iowait


def share_of_others(before: tuple[int, int], after: tuple[int, int], own: float) -> float:
    """The share of the machine that others used between two readings of `ticks`, where `own` ticks were not theirs."""
    busy, total = after[0] - before[0], after[1] - before[1]
    return max(busy - own, 0) / max(total, 1)


def verdict(share: float) -> list[str]:
    """A warning if other processes used too large a share of the machine."""
    return ["NOT TO BE TRUSTED: the machine was not quiet; run it again alone."] if share > QUIET else []
