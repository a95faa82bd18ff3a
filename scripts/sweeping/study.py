"""The sweep on Optuna: which trial comes next, its result, which is pruned, and which is run again.

Optuna's `study.optimize` runs the trials in threads, with heartbeats; several processes, on any machines, may share a
storage. What Optuna does not have is an exact total over all of them: its `MaxTrialsCallback` counts trials that have
ended, so that every process that is at work then adds one. `Claims` keeps that count.
"""

import json
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import optuna
from optuna.exceptions import ExperimentalWarning, TrialPruned, UpdateFinishedTrialError
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from sweeping import objectives
from sweeping.places import Place
from sweeping.settings import flags
from sweeping.space import Space, UsageError
from sweeping.storage import DEAD, SweepFailed, run_again
from sweeping.trial import Job, Result

# How often a trial whose process died is run again. Trials that ended with their sweep do not count.
RETRIES = 3

# The sweep ends after this many failed trials in a row: the cause is then not the settings.
FAILURES = 3

SURPLUS = "surplus"
"""The user attribute of a trial that was not needed and never ran, for later calls with more --trials."""

warnings.simplefilter("ignore", ExperimentalWarning)


def make_sampler(name: str, conditional: bool = False) -> BaseSampler:
    """`grid` enqueues its points instead, and draws nothing. `conditional`: not all trials draw the same settings."""
    if name != "tpe":
        return RandomSampler()
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


def is_finished(trial: FrozenTrial) -> bool:
    """Whether a trial counts: it ended with a result, or it failed for good."""
    if trial.state == TrialState.FAIL:
        return "error" in trial.user_attrs
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED)


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that count, of all processes."""
    return list(filter(is_finished, study.get_trials(deepcopy=False)))


def status(trial: FrozenTrial) -> str:
    """What became of a trial that ended: done, pruned, diverged or failed."""
    if trial.user_attrs.get("diverged"):
        return "diverged"
    return {TrialState.COMPLETE: "done", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}[trial.state]


@dataclass
class Claims:
    """Which trials of a study may run, when several processes share it.

    Nothing is locked. A storage numbers the trials in the order in which they are made, and whoever sees a trial sees
    all those with lower numbers. So a process first makes a trial and then looks whether it was needed, and all
    processes come to the same answer.

    A trial is needed if no earlier one stands for the same thing. A drawn one stands for itself, and --trials of those
    are needed; one with given settings stands for these; and one that is run again, for the trial before it.
    """

    needed: dict[int, FrozenTrial]
    """By number."""
    new: int
    """How many trials are yet to be made."""

    @classmethod
    def of(cls, trials: Iterable[FrozenTrial], total: int) -> "Claims":
        """`trials` are all trials of a study by number, `total` is --trials."""
        needed: dict[int, FrozenTrial] = {}
        known: set[int | str] = set()
        # Read often, and thousands of trials long: Optuna's properties are asked once.
        for trial in trials:
            attrs = trial.system_attrs
            before = attrs.get("retry_history")
            if (total == 0 and not before) or SURPLUS in trial.user_attrs:
                continue
            if before or "fixed_params" in attrs:
                thing = before[-1] if before else json.dumps(attrs["fixed_params"], sort_keys=True)
                if thing in known:
                    continue
                known.add(thing)
            needed[trial.number] = trial
            total -= not before
        return cls(needed, total)

    def lost(self) -> list[FrozenTrial]:
        """The trials that ended without a result, and that nobody enqueued again: a process died between the two."""
        again = {(trial.system_attrs.get("retry_history") or [None])[-1] for trial in self.needed.values()}
        ended = [it for it in self.needed.values() if it.state == TrialState.FAIL and not is_finished(it)]
        return [trial for trial in ended if trial.number not in again]

    def count(self, *states: TrialState) -> int:
        """How many of those that are needed are in one of these states."""
        return sum(trial.state in states for trial in self.needed.values())


class NotRun(Exception):
    """A trial without a result."""


class TakenOver(BaseException):
    """Another process took a trial of ours for dead, and runs it again. Optuna cannot tell it how that ended here."""


@dataclass
class Sweep:
    """A sweep under way."""

    study: optuna.Study
    space: Space
    command: list[str]
    """The program and the flags that every run has."""
    seeds: list[int]
    place: Place
    trials: int
    """The total number of trials, those of earlier processes included."""
    owner: str
    """Marks the trials of this process, and of those before it with the same `--out`."""
    exclusive: bool
    """Whether no other process can use the storage."""
    scratch: Path | None = None
    timeout: float | None = None
    ended: Callable[[FrozenTrial], None] = lambda _: None
    """Called with every trial that counts."""
    _failures: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> None:
        """Runs trials until there are enough, the time is up, or the place is stopped."""
        began = time.monotonic()
        self.reclaim(at_start=True)
        while not self.place.stopped:
            left = None if self.timeout is None else self.timeout - (time.monotonic() - began)
            claims = self._claims()
            startable = claims.new + claims.count(TrialState.WAITING)
            if (left is not None and left <= 0) or not (startable or claims.count(TrialState.RUNNING)):
                return
            if startable:
                with suppress(TakenOver):
                    self.study.optimize(
                        self._objective,
                        n_trials=startable,
                        timeout=left,
                        n_jobs=self.place.jobs,
                        catch=(NotRun,),
                        callbacks=[self._ended],
                    )
            else:
                # Others are at work on the rest: one of them may die.
                time.sleep(1)
            optuna.storages.fail_stale_trials(self.study)
            self.reclaim()

    def _claims(self) -> Claims:
        return Claims.of(self.study.get_trials(deepcopy=False), self.trials)

    def _objective(self, trial: Trial) -> list[float]:
        try:
            return self._train(trial)
        except UpdateFinishedTrialError as error:
            raise TakenOver from error

    def _train(self, trial: Trial) -> list[float]:
        if trial.number not in self._claims().needed:
            # Another process was faster.
            trial.set_user_attr(SURPLUS, True)
            self.study.stop()
            raise NotRun
        self.space.draw(trial)
        trial.set_user_attr("owner", self.owner)
        command = [*self.command, self.space.held_out, *flags(trial.params)]
        result = self.place.run(Job(command, self.seeds, scratch=self.scratch), self._pruning(trial))
        trial.set_user_attr("seconds", result.seconds)
        trial.set_user_attr("epochs", result.epochs)
        return self._outcome(trial, result)

    def _pruning(self, trial: Trial) -> Callable[[int, float], bool]:
        def prune(epochs: int, accuracy: float) -> bool:
            # With several objectives Optuna takes no reports, and prunes nothing.
            if len(self.space.objectives) > 1:
                return False
            try:
                trial.report(accuracy, epochs)
                return trial.should_prune()
            except UpdateFinishedTrialError:
                # Taken over: its result is of no use.
                return True

        return prune

    def _outcome(self, trial: Trial, result: Result) -> list[float]:
        """What Optuna is told of a trial."""
        if result.status == "lost" and self.place.stopped:
            self.study.stop()
            raise NotRun
        if result.status == "lost":
            losses = trial.user_attrs.get("losses", 0) + 1
            trial.set_user_attr("losses", losses)
            if losses > RETRIES:
                trial.set_user_attr("error", f"its process died {losses} times")
            raise NotRun
        # `usage`: the ends of all ranges were checked, but not every combination of values.
        if result.status in ("failed", "usage"):
            trial.set_user_attr("error", result.error)
            raise NotRun
        if result.status == "diverged":
            trial.set_user_attr("diverged", True)
        values = objectives.outcome(self.space.objectives, result)
        if values is None:
            raise TrialPruned
        return values

    def _ended(self, study: optuna.Study, trial: FrozenTrial) -> None:
        if SURPLUS in trial.user_attrs:
            return
        if not is_finished(trial):
            run_again(study, trial)
            return
        with self._lock:
            self.ended(trial)
            self._failures = self._failures + 1 if trial.state == TrialState.FAIL else 0
            if self._failures == FAILURES:
                self.place.stop()
                why = trial.user_attrs["error"]
                raise SweepFailed(f"{FAILURES} trials failed in a row, the last one because of: {why}")

    def reclaim(self, at_start: bool = False) -> None:
        """Has those trials run again that Optuna's heartbeats do not find: `at_start` those of this process's
        predecessors, whose heartbeats may be recent, and such as have none, because their process died too soon."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            owner = trial.user_attrs.get("owner")
            mine = at_start and (self.exclusive or owner == self.owner)
            if mine or (owner is None and time.time() - trial.datetime_start.timestamp() > DEAD):
                self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        for trial in self._claims().lost():
            run_again(self.study, trial)


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
