"""Where trials run: here, or on a Ray cluster. A thread of the sweep follows each one, and decides what is pruned.

On a cluster a trial is an actor with its share of a machine's cores and GPUs, which waits after each epoch for the
sweep's answer.
"""

import contextlib
import json
import logging
import os
import subprocess
import threading
from functools import partial
from pathlib import Path
from typing import IO, Protocol

from sweeping import trial
from sweeping.space import UsageError
from sweeping.trial import Decide, Job, Result


class Place(Protocol):
    """Something that runs jobs."""

    jobs: int
    """How many it runs at once."""
    stopped: bool

    def run(self, job: Job, decide: Decide) -> Result:
        """Runs a job to its end; it is lost if the place is stopped meanwhile."""

    def stop(self) -> None:
        """Kills every job; none is started any more."""


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


# What a trial takes: libtorch, the images and a batch of the test, in bytes.
MEMORY_OF_TRIAL = 1 << 30


def at_once(program: Path) -> int:
    """How many trials this machine runs at once: one per core, as memory allows, and one on a GPU.

    One thread for each of several trials makes more of them per minute than all threads for one at a time.
    """
    done = subprocess.run([program, "doctor", "--format", "json"], capture_output=True, text=True, check=True)
    if json.loads(done.stdout)["cuda"]["usable"]:
        return 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(cores(), memory // MEMORY_OF_TRIAL))


class Machine:
    """This machine."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.stopped = False
        self._processes: list[subprocess.Popen[str]] = []
        # Held while a process is started, so that none is started after `stop`.
        self._lock = threading.Lock()

    def run(self, job: Job, decide: Decide) -> Result:
        """Runs a job to its end."""
        try:
            with contextlib.closing(trial.run(job, self._start)) as epochs:
                return trial.follow(partial(trial.send, epochs), decide)
        except InterruptedError:
            return Result("lost")
        except OSError as error:
            return Result("failed", error=f"{type(error).__name__}: {error}")

    def _start(self, command: list[str], stderr: IO[str]) -> "subprocess.Popen[str]":
        with self._lock:
            if self.stopped:
                raise InterruptedError("the sweep was stopped")
            process = trial.start(command, stderr)
            self._processes = [*(other for other in self._processes if other.poll() is None), process]
            return process

    def stop(self) -> None:
        """Kills the processes."""
        with self._lock:
            self.stopped = True
            for process in self._processes:
                process.kill()


class Cluster:
    """A Ray cluster: the one at `address`, or with `local` one of this machine alone."""

    def __init__(self, address: str, jobs: int | None, cpus: float, gpus: float) -> None:
        try:
            import ray
        except ImportError as error:
            raise UsageError("--ray needs Ray: pip install ray") from error
        self.ray = ray
        try:
            ray.init(
                address=address,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = str(error).split("\n")[0]
            raise UsageError(f"--ray {address} cannot be reached: {reason}") from error
        resources = ray.cluster_resources()
        fits = [resources.get("CPU", 0) / cpus] + ([resources.get("GPU", 0) / gpus] if gpus else [])
        self.jobs = jobs or int(min(fits))
        if self.jobs < 1:
            ray.shutdown()
            has = f"{resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs"
            raise UsageError(f"--ray {address}: a trial of {cpus:g} CPUs and {gpus:g} GPUs is too much for {has}")
        # The other machines need not have this package: its code travels with the actor.
        ray.cloudpickle.register_pickle_by_value(trial)
        self.stopped = False
        self._actor = ray.remote(trial.Runner).options(num_cpus=cpus, num_gpus=gpus)
        self._actors: set = set()

    def run(self, job: Job, decide: Decide) -> Result:
        """Runs a job on any machine that has room for it."""
        ray = self.ray
        actor = self._actor.remote(job)
        self._actors.add(actor)
        try:
            if self.stopped:
                return Result("lost")
            return trial.follow(lambda prune: ray.get(actor.send.remote(prune)), decide)
        except ray.exceptions.RayTaskError as error:
            return Result("failed", error=f"{type(error.cause).__name__}: {error.cause}")
        except ray.exceptions.RayError as error:
            return Result("lost", error=str(error).split("\n")[0])
        finally:
            self._actors.discard(actor)
            ray.kill(actor)

    def stop(self) -> None:
        """Kills the actors; their runs of the program die with them."""
        self.stopped = True
        for actor in list(self._actors):
            self.ray.kill(actor)
