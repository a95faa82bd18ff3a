"""The files of a sweep: a table of its trials, and the best one's settings."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
import tomli_w
from common import replacing
from optuna.trial import FrozenTrial

from sweeping import objectives
from sweeping.objectives import OBJECTIVES
from sweeping.settings import Setting, joined, text_of
from sweeping.space import Space
from sweeping.study import status


def write_table(path: Path, study: optuna.Study, trials: Sequence[FrozenTrial], space: Space) -> None:
    """`sweep.csv`: one line per trial. The accuracy of a pruned one is that of its last epoch; of a diverged one 0.

    The field of a setting that a trial did not draw is empty. With several objectives, `front` says whether a trial is
    in the Pareto front; a diverged trial has no values then.
    """
    several = len(space.objectives) > 1
    front = {trial.number for trial in objectives.front(study)} if several else set()
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        measured = [OBJECTIVES[name].column for name in space.objectives]
        columns = ["trial", "status", *measured, *(["front"] if several else []), *space.ranges]
        writer.writerow([*columns, "epochs", "seconds", "started", "ended", "error"])
        for trial in trials:
            attrs = trial.user_attrs
            writer.writerow(
                [
                    trial.number,
                    status(trial),
                    *(trial.values or [None] * len(measured)),
                    *(["yes" if trial.number in front else "no"] if several else []),
                    *(text_of(trial.params.get(name, "")) for name in space.ranges),
                    attrs.get("epochs"),
                    round(attrs["seconds"], 3) if "seconds" in attrs else None,
                    *(
                        time.isoformat(timespec="milliseconds")
                        for time in [trial.datetime_start, trial.datetime_complete]
                    ),
                    attrs.get("error"),
                ]
            )


def write_settings(path: Path, study_name: str, best: FrozenTrial, settings: Mapping[str, Setting]) -> None:
    """`best.toml`: the settings that won, for `train --config`."""
    text = f"# Trial {best.number} of the sweep {study_name}: {best.values[0]:.2f} % of the validation images.\n"
    with replacing(path) as temporary:
        temporary.write_text(text + tomli_w.dumps(joined(settings)))
