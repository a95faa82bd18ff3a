"""The sweep on Optuna: which trial comes next, its result, which is pruned, and which is run again.

One process of a sweep talks to Optuna, whatever machines its trials run on; several such processes may share a storage.
A trial that is under way is marked with its process and with a heartbeat, so that one whose process died is found: it
is failed, and a new trial with its settings takes its place. `claims.py` keeps the count when several processes do so.
"""

import contextlib
import random
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from sweeping import objectives
from sweeping.claims import REPLACES, SURPLUS, Claims, is_finished
from sweeping.places import Ended, Epoch, Place
from sweeping.settings import flags
from sweeping.space import Space, UsageError
from sweeping.storage import SweepFailed
from sweeping.trial import Job

# Seconds between two heartbeats of a trial, and after how many without one its process counts as dead.
HEARTBEAT = 20
DEAD = 120

# How often a trial whose process died is run again. Trials that ended with their sweep do not count.
RETRIES = 3

# The sweep ends after this many failed trials in a row: the cause is then not the settings.
FAILURES = 3


def make_sampler(name: str, conditional: bool = False) -> BaseSampler:
    """`grid` enqueues its points instead, and draws nothing. `conditional`: not all trials draw the same settings."""
    if name != "tpe":
        return RandomSampler()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # Running trials count as poor ones, so that the next one is not drawn next to them. With groups, settings with
        # the same condition are drawn together from what is known of all of them; without, each is drawn on its own.
        return TPESampler(constant_liar=True, multivariate=True if conditional else None, group=conditional)


def make_pruner(name: str, epochs: int) -> BasePruner:
    """A pruner for trials of this many epochs: a third of those that reach 1, 3, 9, ... epochs go on."""
    if name == "none":
        return NopPruner()
    if name == "halving":
        return SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    return HyperbandPruner(min_resource=1, max_resource=epochs, reduction_factor=3)


def open_study(storage: BaseStorage, name: str, space: Space, sampler: BaseSampler, pruner: BasePruner) -> optuna.Study:
    """The study of that name, a new one or one to go on with."""
    study = optuna.create_study(
        study_name=name,
        storage=storage,
        sampler=sampler,
        pruner=pruner,
        directions=objectives.directions(space.objectives),
        load_if_exists=True,
    )
    began_with = study.user_attrs.get("space")
    if began_with is None:
        study.set_user_attr("space", space.text)
    elif began_with != space.text:
        raise UsageError(
            f"the study {name} was begun with another space file than {space.name}.toml is now: "
            "choose another --study or --out, or take the changes back"
        )
    return study


def spread(points: list[dict], trials: int) -> list[dict]:
    """That many of the grid's points, in an order that spreads them; always the same ones."""
    return random.Random(0).sample(points, len(points))[:trials]


def enqueue(study: optuna.Study, points: list[dict]) -> None:
    """Puts settings into the storage as the next ones to try, unless they are there already."""
    trials_so_far = [trial for trial in study.get_trials(deepcopy=False) if SURPLUS not in trial.user_attrs]
    known = [trial.system_attrs.get("fixed_params", trial.params) for trial in trials_so_far]
    for point in points:
        if point not in known:
            study.enqueue_trial(point)
            known.append(point)


def status(trial: FrozenTrial) -> str:
    """What became of a trial that ended: done, pruned, diverged or failed."""
    if trial.user_attrs.get("diverged"):
        return "diverged"
    return {TrialState.COMPLETE: "done", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}[trial.state]


@dataclass
class Sweep:
    """A sweep under way."""

    study: optuna.Study
    space: Space
    command: list[str]
    """The program and the flags that all trials share."""
    seeds: list[int]
    place: Place
    trials: int
    """The total number of trials, those of earlier processes included."""
    owner: str
    """Marks the trials of this process, and of those before it with the same `--out`."""
    exclusive: bool
    """Whether no other process can use the storage."""
    scratch: Path | None
    timeout: float | None
    stopped: Callable[[], bool]
    ended: Callable[[FrozenTrial], None]
    """Called with every trial that counts."""
    _running: dict[int, Trial] = field(default_factory=dict)
    _epochs: dict[int, int] = field(default_factory=dict)
    """How many epochs of a running trial are known."""
    _failures: int = 0

    def run(self) -> None:
        """Runs trials until there are enough, the time is up, or the process is asked to stop."""
        began = beat = time.monotonic()
        self.reclaim(at_start=True)
        while not self.stopped():
            in_time = self.timeout is None or time.monotonic() - began < self.timeout
            while in_time and len(self._running) < self.place.jobs and self._claims().startable():
                self._start()
            if not self._running and (not in_time or self._claims().over()):
                return
            for message in self.place.wait(0.5):
                self._hear(message)
            if time.monotonic() - beat > HEARTBEAT:
                beat = time.monotonic()
                for trial in self._running.values():
                    with contextlib.suppress(UpdateFinishedTrialError):
                        trial.set_user_attr("heartbeat", time.time())
                self.reclaim()

    def abandon(self) -> None:
        """Ends the running trials, and enqueues them for the next process."""
        if self._running:
            self.place.stop()
        for number in self._running:
            self._lose(number)
        self._running.clear()
        self._replace()

    def finished(self) -> list[FrozenTrial]:
        """The trials that count, of all processes."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if is_finished(trial)]

    def _trial(self, number: int) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[number]

    def _claims(self) -> Claims:
        return Claims.of(self.study.get_trials(deepcopy=False), self.trials)

    def _start(self) -> None:
        trial = self.study.ask()
        if trial.number not in self._claims().needed:
            # Another process was faster.
            trial.set_user_attr(SURPLUS, True)
            self._tell(trial.number, state=TrialState.FAIL)
            return
        self.space.draw(trial)
        trial.set_user_attr("owner", self.owner)
        trial.set_user_attr("heartbeat", time.time())
        self._running[trial.number] = trial
        command = [*self.command, *flags(trial.params)]
        self.place.start(Job(trial.number, command, self.seeds, scratch=self.scratch))

    def _hear(self, message: Epoch | Ended) -> None:
        try:
            if isinstance(message, Epoch):
                self._epoch(message)
            else:
                self._end(message)
        except UpdateFinishedTrialError:
            # Another process saw no heartbeat of the trial for too long, and runs it again.
            if isinstance(message, Epoch):
                self.place.answer(message, True)
            elif is_finished(ended := self._trial(message.number)):
                # Or the database took the result, and went away before it said so.
                self.ended(ended)

    def _epoch(self, message: Epoch) -> None:
        if len(self.space.objectives) > 1:
            # Optuna takes no reports then, and prunes nothing.
            self.place.answer(message, False)
            return
        trial = self._running[message.number]
        # A job that Ray started again on another machine reports its epochs again.
        if message.epochs > self._epochs.get(message.number, 0):
            self._epochs[message.number] = message.epochs
            trial.report(message.accuracy, message.epochs)
        self.place.answer(message, trial.should_prune())

    def _end(self, message: Ended) -> None:
        trial, result = self._running.pop(message.number), message.result
        self._epochs.pop(message.number, None)
        if result.status == "lost":
            self._lose(trial.number, losses=1)
            self._replace()
            return
        trial.set_user_attr("seconds", result.seconds)
        trial.set_user_attr("epochs", result.epochs)
        # `usage`: the ends of all ranges were checked, but not every combination of values.
        if result.status in ("failed", "usage"):
            self._fail(trial.number, result.error)
            return
        self._failures = 0
        if result.status == "diverged":
            trial.set_user_attr("diverged", True)
        self.ended(self._tell(trial.number, *objectives.outcome(self.space.objectives, result)))

    def _tell(
        self, number: int, values: float | list[float] | None = None, state: TrialState | None = None
    ) -> FrozenTrial:
        """Ends a trial; an `UpdateFinishedTrialError` says that it had ended."""
        try:
            return self.study.tell(number, values, state)
        except ValueError as error:
            if self._trial(number).state.is_finished():
                raise UpdateFinishedTrialError from error
            raise

    def _fail(self, number: int, error: str) -> None:
        """Fails a trial for good."""
        self._set(number, "error", error)
        self.ended(self._tell(number, state=TrialState.FAIL))
        self._failures += 1
        if self._failures == FAILURES:
            raise SweepFailed(f"{FAILURES} trials failed in a row, the last one because of: {error}")

    def _set(self, number: int, name: str, value: object) -> None:
        self.study._storage.set_trial_user_attr(self._trial(number)._trial_id, name, value)

    def reclaim(self, at_start: bool = False) -> None:
        """Runs the trials again whose process died: those of this one's predecessors, and those without a heartbeat."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.number in self._running:
                continue
            mine = self.exclusive or trial.user_attrs.get("owner") == self.owner
            last_sign = trial.user_attrs.get("heartbeat", trial.datetime_start.timestamp())
            if (at_start and mine) or time.time() - last_sign > DEAD:
                self._lose(trial.number)
        self._replace()

    def _lose(self, number: int, losses: int = 0) -> None:
        """Fails a trial that ended without a result, for good if that happened too often."""
        losses += self._trial(number).user_attrs.get("losses", 0)
        with contextlib.suppress(UpdateFinishedTrialError):  # Another process was faster.
            if losses > RETRIES:
                self._fail(number, f"its process died {losses} times")
            else:
                if losses:
                    self._set(number, "losses", losses)
                self._tell(number, state=TrialState.FAIL)

    def _replace(self) -> None:
        """Puts another trial with the same settings in the place of each one that ended without a result."""
        for trial in self._claims().lost():
            kept = {key: value for key, value in trial.system_attrs.items() if key == "fixed_params"}
            self.study.add_trial(
                optuna.create_trial(
                    state=TrialState.WAITING,
                    params=trial.params,
                    distributions=trial.distributions,
                    system_attrs={**kept, REPLACES: trial.number},
                    user_attrs={"losses": trial.user_attrs.get("losses", 0)},
                )
            )


def summary(trials: Iterable[FrozenTrial], epochs_of: Callable[[FrozenTrial], int]) -> str:
    """`24 trials: 15 complete, 1 of them diverged, 9 pruned, 0 failed; 51 of 72 epochs trained`"""
    trials = list(trials)
    ended = Counter(map(status, trials))
    trained = sum(trial.user_attrs.get("epochs", 0) for trial in trials)
    return (
        f"{len(trials)} trials: {ended['done'] + ended['diverged']} complete ({ended['diverged']} of them diverged), "
        f"{ended['pruned']} pruned, {ended['failed']} failed; "
        f"{trained} of {sum(map(epochs_of, trials))} epochs trained"
    )
