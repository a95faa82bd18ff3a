"""Where trials run: here, in threads of this process that each wait for a run of the program."""

import contextlib
import os
import queue
import subprocess
import threading
from dataclasses import dataclass
from typing import IO, Protocol

from sweeping import trial
from sweeping.trial import Job, Result


@dataclass(frozen=True)
class Epoch:
    """An epoch of a job is done, and the job waits for [`Place.answer`]."""

    number: int
    epochs: int
    accuracy: float


@dataclass(frozen=True)
class Ended:
    """A job is over."""

    number: int
    result: Result


class Place(Protocol):
    """Something that runs jobs and reports on them."""

    jobs: int
    """How many it runs at once."""

    def start(self, job: Job) -> None:
        """Starts a job."""

    def wait(self, seconds: float) -> list[Epoch | Ended]:
        """What happened; waits that long for something to happen."""

    def answer(self, epoch: Epoch, prune: bool) -> None:
        """Says whether the job is pruned after that epoch."""

    def stop(self) -> None:
        """Ends every job at once, and returns when none is left."""


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


class Threads:
    """This machine."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._messages: queue.SimpleQueue[Epoch | Ended] = queue.SimpleQueue()
        self._answers: dict[int, queue.SimpleQueue[bool]] = {}
        self._threads: dict[int, threading.Thread] = {}
        self._processes: list[subprocess.Popen[str]] = []
        # Held while a process is started, so that none is started after `stop`.
        self._lock = threading.Lock()
        self._stopped = False

    def start(self, job: Job) -> None:
        """Starts a job in a thread of its own."""
        self._answers[job.number] = queue.SimpleQueue()
        self._threads[job.number] = threading.Thread(target=self._run, args=(job,), daemon=True)
        self._threads[job.number].start()

    def _run(self, job: Job) -> None:
        def decide(epochs: int, accuracy: float) -> bool:
            self._messages.put(Epoch(job.number, epochs, accuracy))
            return self._answers[job.number].get()

        try:
            result = trial.run(job, decide, self._start_process)
        except Exception as error:
            result = Result("failed", error=f"{type(error).__name__}: {error}")
        self._messages.put(Ended(job.number, result))

    def _start_process(self, command: list[str], stderr: IO[str]) -> "subprocess.Popen[str]":
        with self._lock:
            if self._stopped:
                raise InterruptedError("the sweep was stopped")
            process = trial.start(command, stderr)
            self._processes = [other for other in self._processes if other.poll() is None]
            self._processes.append(process)
            return process

    def wait(self, seconds: float) -> list[Epoch | Ended]:
        """What happened; waits that long for something to happen."""
        with contextlib.suppress(queue.Empty):
            message = self._messages.get(timeout=seconds)
            if isinstance(message, Ended):
                self._threads.pop(message.number).join()
            return [message]
        return []

    def answer(self, epoch: Epoch, prune: bool) -> None:
        """Says whether the job is pruned after that epoch."""
        self._answers[epoch.number].put(prune)

    def stop(self) -> None:
        """Kills the processes and waits for their threads."""
        with self._lock:
            self._stopped = True
            for process in self._processes:
                process.kill()
        for number, thread in self._threads.items():
            self._answers[number].put(False)
            thread.join()
