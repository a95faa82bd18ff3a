"""How far a sweep is: a bar on a terminal, one line per trial in a log."""

import sys
import time

import optuna
from optuna.trial import FrozenTrial
from tqdm import tqdm

from sweeping import objectives
from sweeping.study import finished, status


class Progress:
    """The progress of a study towards its total number of trials, whichever processes run them."""

    def __init__(self, study: optuna.Study, total: int, jobs: int, timeout: float | None) -> None:
        self._study = study
        self._total = total
        self._jobs = jobs
        self._timeout = timeout
        self._began = time.monotonic()
        self._before = self._done = self._count()
        # No smoothing: trials differ so much that the last few say little about the next ones.
        self._bar = tqdm(total=total, initial=self._before, unit="trial", smoothing=0, disable=None)

    def _count(self) -> int:
        return len(finished(self._study))

    def ended(self, trial: FrozenTrial) -> None:
        """Shows a trial that has ended."""
        self._done = self._count()
        best = objectives.best(self._study)
        best_so_far = f"best {best.values[0]:.2f} % (trial {best.number})" if best else ""
        if "error" in trial.user_attrs:
            tqdm.write(f"trial {trial.number} failed: {trial.user_attrs['error']}", file=sys.stderr)
        self._bar.set_postfix_str(best_so_far, refresh=False)
        self._bar.update(self._done - self._bar.n)
        if self._bar.disable:
            accuracy = objectives.accuracy(trial)
            result = status(trial) if accuracy is None else f"{status(trial)}, {accuracy:.2f} %"
            rest = ", ".join(filter(None, [f"{self._done} of {self._total}", best_so_far, self._left()]))
            print(f"trial {trial.number}: {result}; {rest}", file=sys.stderr, flush=True)

    def _left(self) -> str:
        elapsed, here, left = time.monotonic() - self._began, self._done - self._before, self._total - self._done
        seconds = time_left(elapsed, here, left, self._jobs, self._timeout)
        return "" if seconds is None else f"about {duration(seconds)} left"

    def close(self) -> None:
        """Leaves the terminal to others."""
        self._bar.close()


def time_left(elapsed: float, done: int, left: int, jobs: int, timeout: float | None) -> float | None:
    """Seconds until the sweep ends, if the trials to come take as long as those so far, pruned ones among them; None
    before each job can have ended a trial, and when nothing is left."""
    if left <= 0 or done < jobs:
        return None
    estimate = elapsed / done * left
    return estimate if timeout is None else max(0.0, min(estimate, timeout - elapsed))


def duration(seconds: float) -> str:
    """`40 s`, `12 min` or `3 h 20 min`"""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
