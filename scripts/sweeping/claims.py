"""Which trials of a study may run, when several processes share it.

Nothing is locked. A storage numbers the trials in the order in which they are made, and whoever sees a trial sees all
those with lower numbers. So a process first makes a trial and then looks whether it was needed, and all processes come
to the same answer. A trial that was not needed is *surplus*, and never runs.

A trial is needed if no earlier one stands for the same thing. A drawn one stands for itself, and --trials of those are
needed; one with given settings stands for these; and one that replaces a trial whose process died, for that trial.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

SURPLUS = "surplus"
"""The user attribute of a surplus trial, for later calls with more --trials."""

REPLACES = "failed_trial"
"""The system attribute with the number of the trial that this one replaces; the name is Optuna's."""


def is_finished(trial: FrozenTrial) -> bool:
    """Whether a trial counts: it ended, and no other one replaces it."""
    if trial.state == TrialState.FAIL:
        return "error" in trial.user_attrs
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass
class Claims:
    """What is needed of a study."""

    needed: dict[int, FrozenTrial]
    """The trials that are not surplus, by number."""
    new: int
    """How many trials are yet to be made."""

    @classmethod
    def of(cls, trials: Iterable[FrozenTrial], total: int) -> "Claims":
        """`trials` are all trials of a study by number, `total` is --trials."""
        needed: dict[int, FrozenTrial] = {}
        known: set[int | str] = set()
        new = total
        # Read often, and thousands of trials long: Optuna's properties are asked once.
        for trial in trials:
            attrs = trial.system_attrs
            replaces = REPLACES in attrs
            if (new == 0 and not replaces) or SURPLUS in trial.user_attrs:
                continue
            if replaces or "fixed_params" in attrs:
                thing = attrs[REPLACES] if replaces else json.dumps(attrs["fixed_params"], sort_keys=True)
                if thing in known:
                    continue
                known.add(thing)
            needed[trial.number] = trial
            new -= not replaces
        return cls(needed, new)

    def lost(self) -> list[FrozenTrial]:
        """The trials that ended without a result, and that no other one replaces yet."""
        gone = {
            number: trial
            for number, trial in self.needed.items()
            if trial.state == TrialState.FAIL and not is_finished(trial)
        }
        if gone:
            for trial in self.needed.values():
                gone.pop(trial.system_attrs.get(REPLACES), None)
        return list(gone.values())

    def startable(self) -> bool:
        """Whether a trial waits to be run, or is yet to be made."""
        return self.new > 0 or any(trial.state == TrialState.WAITING for trial in self.needed.values())

    def over(self) -> bool:
        """Whether every trial has its result, those of other processes included."""
        return (
            self.new == 0
            and not self.lost()
            and not any(trial.state in (TrialState.WAITING, TrialState.RUNNING) for trial in self.needed.values())
        )
