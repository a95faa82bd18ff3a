"""Where trials run: tasks on a Ray cluster, each with its share of a machine's cores and GPUs.

The decisions are taken in the sweep's process: a task asks an actor, the board, whether to go on after an epoch, and
waits until the sweep has answered there.
"""

import asyncio
import logging
import sys
from collections.abc import Callable

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweeping import trial
from sweeping.places import Ended, Epoch
from sweeping.space import UsageError
from sweeping.trial import Job, Result

# How often Ray itself starts a task again whose machine went away, before the sweep hears of it.
RETRIES = 3


class Board:
    """Questions of the tasks, answers of the sweep. It lives on the sweep's own machine."""

    def __init__(self) -> None:
        self.questions: asyncio.Queue[tuple[int, int, float]] = asyncio.Queue()
        self.answers: dict[tuple[int, int], asyncio.Future[bool]] = {}

    async def ask(self, number: int, epochs: int, accuracy: float) -> bool:
        """Whether to prune; a task that was started again takes the place of the one before it."""
        answer = self.answers[number, epochs] = asyncio.get_running_loop().create_future()
        await self.questions.put((number, epochs, accuracy))
        return await answer

    async def take(self) -> tuple[int, int, float]:
        """The next question, as soon as there is one."""
        return await self.questions.get()

    async def answer(self, number: int, epochs: int, prune: bool) -> None:
        """Answers a question."""
        answer = self.answers.pop((number, epochs), None)
        if answer is not None:
            answer.set_result(prune)


def work(run: Callable[..., Result], job: Job, board: ActorHandle) -> Result:
    """The task: `trial.run` with the board's answers."""
    return run(job, lambda epochs, accuracy: ray.get(board.ask.remote(job.number, epochs, accuracy)))


class Cluster:
    """A Ray cluster: the one at `address`, or with `local` one of this machine alone."""

    def __init__(self, address: str, jobs: int | None, cpus: float, gpus: float) -> None:
        try:
            ray.init(
                address=None if address == "local" else address,
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
        # The other machines need not have this package: its code travels with the task.
        for module in [trial, sys.modules[__name__]]:
            ray.cloudpickle.register_pickle_by_value(module)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._board = ray.remote(Board).options(num_cpus=0, scheduling_strategy=here).remote()
        self._task = ray.remote(work).options(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)
        self._tasks: dict[ray.ObjectRef, int] = {}
        self._question = self._board.take.remote()

    def start(self, job: Job) -> None:
        """Starts a job on any machine that has room for it."""
        self._tasks[self._task.remote(trial.run, job, self._board)] = job.number

    def wait(self, seconds: float) -> list[Epoch | Ended]:
        """What happened; waits that long for something to happen."""
        ready, _ = ray.wait([self._question, *self._tasks], timeout=seconds)
        messages: list[Epoch | Ended] = []
        for ref in ready:
            if ref == self._question:
                messages.append(Epoch(*ray.get(ref)))
                self._question = self._board.take.remote()
            else:
                messages.append(Ended(self._tasks.pop(ref), result_of(ref)))
        return messages

    def answer(self, epoch: Epoch, prune: bool) -> None:
        """Says whether the job is pruned after that epoch."""
        self._board.answer.remote(epoch.number, epoch.epochs, prune)

    def stop(self) -> None:
        """Kills the tasks; their runs of the program die with them."""
        tasks = list(self._tasks)
        self._tasks.clear()
        for task in tasks:
            ray.cancel(task, force=True)
        if tasks:
            ray.wait(tasks, num_returns=len(tasks), timeout=10)
        ray.shutdown()


def result_of(ref: ray.ObjectRef) -> Result:
    """What a task came to."""
    try:
        return ray.get(ref)
    except RayTaskError as error:
        return Result("failed", error=f"{type(error.cause).__name__}: {error.cause}")
    except RayError as error:
        return Result("lost", error=str(error).split("\n")[0])
