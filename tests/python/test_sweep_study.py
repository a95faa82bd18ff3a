"""A sweep's bookkeeping, with a place that only reports results."""

import csv
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import sweep as sweep_script
from optuna.trial import TrialState
from sweeping import objectives, places, progress, results, space, study
from sweeping.storage import SharedJournal, run_again
from sweeping.study import Sweep, SweepFailed, finished
from sweeping.trial import Decide, Job, Result

RANGES = {"lr": space.read_range("lr", {"type": "float", "low": 0.0, "high": 1.0})}
SPACE = space.Space("fake", {}, RANGES, seeds=1, validation=1, text={})


class Fake:
    """A place whose jobs end at once; `end` gives the result by how many came before, and by how often those settings
    were tried."""

    def __init__(self, end: Callable[[int, int], Result]) -> None:
        self.end = end
        self.jobs = 1
        self.stopped = False
        self.tried: Counter[str] = Counter()
        self.answers: list[list[bool]] = []

    def run(self, job: Job, decide: Decide) -> Result:
        """Reports the epochs of a job, and its end."""
        settings = job.command[-1]
        self.tried[settings] += 1
        result = self.end(self.tried.total() - 1, self.tried[settings])
        self.answers.append([decide(epoch, result.accuracy or 0.0) for epoch in range(1, result.epochs + 1)])
        return result

    def stop(self) -> None:
        """Starts no more."""
        self.stopped = True


def sweep_of(
    place: Fake, trials: int, searched: space.Space = SPACE, storage: optuna.storages.BaseStorage | None = None
) -> Sweep:
    storage = storage or optuna.storages.InMemoryStorage()
    opened = study.open_study(storage, "fake", searched, study.make_sampler("random"), study.make_pruner("none", 9))
    return Sweep(opened, searched, ["program"], [1], place, trials, owner="me", exclusive=False)


def test_a_study_goes_on_with_the_space_that_it_began_with_and_in_a_folder_of_its_own(tmp_path: Path) -> None:
    storage = optuna.storages.InMemoryStorage()
    tools = study.make_sampler("tpe"), study.make_pruner("hyperband", 3)
    for _ in range(2):
        study.open_study(storage, "fake", SPACE, *tools)
    with pytest.raises(space.UsageError, match="the study fake was begun with another space file"):
        study.open_study(storage, "fake", replace(SPACE, text={"seeds": 2}), *tools)

    sweep_script.lock(tmp_path)
    with pytest.raises(space.UsageError, match="another sweep is at work in"):
        sweep_script.lock(tmp_path)


def test_a_lost_trial_is_run_again_with_its_settings_but_not_for_ever() -> None:
    place = Fake(lambda _, tried: Result("done", 90.0, 1) if tried > 2 else Result("lost"))
    sweep = sweep_of(place, 4)
    sweep.run()
    assert [trial.value for trial in finished(sweep.study)] == [90.0] * 4
    assert list(place.tried.values()) == [3] * 4
    assert len(sweep.study.trials) == 12

    place = Fake(lambda *_: Result("lost"))
    with pytest.raises(SweepFailed, match="its process died 4 times"):
        sweep_of(place, 10).run()
    assert max(place.tried.values()) == 4


def test_failures_count_and_three_in_a_row_end_the_sweep() -> None:
    sweep = sweep_of(Fake(lambda n, _: Result("failed", error="no disk") if n % 3 else Result("done", 90.0, 1)), 9)
    sweep.run()
    assert [trial.state for trial in finished(sweep.study)].count(TrialState.FAIL) == 6
    assert len(sweep.study.trials) == 9

    sweep = sweep_of(Fake(lambda *_: Result("failed", error="no disk")), 9)
    with pytest.raises(SweepFailed, match="3 trials failed in a row, the last one because of: no disk"):
        sweep.run()
    assert len(sweep.study.trials) == 3


def started(sweep: Sweep, owner: str = "other", age: float = 0.0) -> optuna.Trial:
    """A trial that another process has begun, and of which nothing was heard for some seconds."""
    trial = sweep.study.ask(SPACE.distributions)
    trial.set_user_attr("owner", owner)
    trial.set_user_attr("heartbeat", time.time() - age)
    return trial


def test_trials_without_a_heartbeat_are_run_again_and_the_others_are_not(tmp_path: Path) -> None:
    storage = SharedJournal(optuna.storages.journal.JournalFileBackend(str(tmp_path / "journal")))
    sweep = sweep_of(Fake(lambda *_: Result("done", 90.0, 1)), 5, storage=storage)
    mine, other, dead = started(sweep, "me"), started(sweep), started(sweep, age=1000.0)
    sweep.ended = lambda _: other.study.tell(other.number, 80.0, skip_if_finished=True)
    sweep.run()
    trials = sweep.study.trials
    assert [trials[it.number].state for it in [mine, dead]] == [TrialState.FAIL] * 2
    again = [trial.params for trial in trials if "retry_history" in trial.system_attrs]
    assert again == [mine.params, dead.params]
    # The fifth is the other sweep's, which is alive.
    assert sorted(trial.value for trial in finished(sweep.study)) == [80.0] + [90.0] * 4


def test_the_front_has_the_trials_that_no_other_one_beats_and_none_that_diverged(tmp_path: Path) -> None:
    outcomes = [
        Result("done", 95.0, 2, training_seconds=5.0),
        Result("done", 90.0, 2, training_seconds=4.0),
        # Beaten by the second one.
        Result("done", 89.0, 2, training_seconds=4.5),
        Result("diverged", 99.0, 1, training_seconds=0.1),
        Result("failed", error="no disk"),
        Result("done", 10.0, 2, training_seconds=1.0),
    ]
    searched = replace(SPACE, objectives=("accuracy", "seconds"))
    place = Fake(lambda n, _: outcomes[n])
    sweep = sweep_of(place, len(outcomes), searched=searched)
    sweep.run()
    assert [trial.number for trial in objectives.front(sweep.study)] == [0, 1, 5]
    assert objectives.best(sweep.study).values == [95.0, 5.0]
    # Nothing is pruned.
    assert not any(any(answers) for answers in place.answers)
    said = study.summary(finished(sweep.study), lambda _: 2)
    assert said.startswith("6 trials: 5 complete (1 of them diverged), 0 pruned, 1 failed; ")

    results.write_table(tmp_path / "sweep.csv", sweep.study, finished(sweep.study), searched)
    rows = list(csv.DictReader((tmp_path / "sweep.csv").open()))
    assert [row["front"] for row in rows] == ["yes", "yes", "no", "no", "no", "yes"]
    assert [row["training_seconds"] for row in rows] == ["5.0", "4.0", "4.5", "", "", "1.0"]
    assert [row["status"] for row in rows] == ["done", "done", "done", "diverged", "failed", "done"]
    assert [row["error"] for row in rows] == ["", "", "", "", "no disk", ""]


def test_a_trial_that_diverged_is_never_the_best() -> None:
    sweep = sweep_of(Fake(lambda *_: Result("diverged", None, 1)), 2)
    sweep.run()
    assert [trial.value for trial in finished(sweep.study)] == [0.0, 0.0]
    assert objectives.best(sweep.study) is None


def test_a_lost_trial_keeps_just_the_settings_that_it_drew() -> None:
    schedule = space.read_range("schedule", {"type": "choice", "values": ["step", "cosine"]})
    gamma = space.read_range("gamma", {"type": "float", "low": 0.1, "high": 0.9, "when": {"schedule": "step"}})
    searched = replace(SPACE, ranges={"schedule": schedule, "gamma": gamma})
    sweep = sweep_of(Fake(lambda _, tried: Result("done" if tried > 1 else "lost", 90.0, 1)), 12, searched=searched)
    sweep.run()
    lost = [trial for trial in sweep.study.trials if trial.state == TrialState.FAIL]
    assert {len(trial.params) for trial in lost} == {1, 2}
    for trial in sweep.study.trials:
        assert ("gamma" in trial.params) == (trial.params["schedule"] == "step")


def test_the_time_left_is_that_of_the_trials_so_far() -> None:
    # Four of ten are done in two minutes, by two jobs.
    assert progress.time_left(120, done=4, left=6, jobs=2, timeout=None) == 180
    assert progress.time_left(120, done=4, left=6, jobs=2, timeout=200) == 80
    assert progress.time_left(120, done=4, left=6, jobs=2, timeout=60) == 0
    # One job has not ended a trial yet.
    assert progress.time_left(120, done=1, left=9, jobs=2, timeout=None) is None
    assert progress.time_left(120, done=10, left=0, jobs=2, timeout=None) is None
    assert [progress.duration(seconds) for seconds in [7.4, 89, 90, 720, 12000]] == [
        "7 s",
        "89 s",
        "2 min",
        "12 min",
        "3 h 20 min",
    ]


def test_progress_in_a_log(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "time_left", lambda elapsed, done, left, *_: 240.0 * left if left else None)
    outcomes = [Result("done", 90.0, 1), Result("failed", error="no disk"), Result("done", 80.0, 1), Result("diverged")]
    sweep = sweep_of(Fake(lambda n, _: outcomes[n]), 4)
    sweep.ended = progress.Progress(sweep.study, 4, 1, None).ended
    sweep.run()
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "trial 0: done, 90.00 %; 1 of 4, best 90.00 % (trial 0), about 12 min left",
        "trial 1 failed: no disk",
        "trial 1: failed; 2 of 4, best 90.00 % (trial 0), about 8 min left",
        "trial 2: done, 80.00 %; 3 of 4, best 90.00 % (trial 0), about 4 min left",
        "trial 3: diverged, 0.00 %; 4 of 4, best 90.00 % (trial 0)",
    ]


def test_a_trial_that_others_have_made_meanwhile_is_not_run() -> None:
    place = Fake(lambda *_: Result("done", 90.0, 1))
    sweep = sweep_of(place, 3)
    others = []

    def make_some(trial: optuna.trial.FrozenTrial) -> None:
        """Others take the rest while this process runs its first one."""
        if not others:
            others.extend(started(sweep) for _ in range(2))
            sweep.study.tell(others[0].number, 80.0)
        elif trial.number > others[1].number:
            pytest.fail("it ran a trial too many")

    sweep.ended = make_some
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", lambda _: sweep.study.tell(others[1].number, 80.0))
        sweep.run()
    assert [trial.value for trial in finished(sweep.study)] == [90.0, 80.0, 80.0]
    assert place.tried.total() == 1
    # Given again with more trials, it runs those.
    sweep.trials, sweep.ended = 5, lambda _: None
    sweep.run()
    assert [trial.value for trial in finished(sweep.study)] == [90.0, 80.0, 80.0, 90.0, 90.0]


def test_a_dead_trial_is_replaced_once_whoever_notices() -> None:
    place = Fake(lambda *_: Result("done", 90.0, 1))
    sweep = sweep_of(place, 2)
    dead, half_done = started(sweep), started(sweep)
    # Two processes noticed the first one; of the second one a process was told that was killed before it did the rest.
    sweep.study.tell(dead.number, state=TrialState.FAIL)
    for _ in range(2):
        run_again(sweep.study, sweep.study.trials[dead.number])
    sweep.study.tell(half_done.number, state=TrialState.FAIL)
    sweep.run()
    assert len(finished(sweep.study)) == 2
    assert list(place.tried.values()) == [1] * 2


def test_a_trial_that_was_taken_for_dead_is_not_told_twice() -> None:
    def end(number: int, _: int) -> Result:
        if number == 0:
            # No heartbeat came through for some minutes, and another process runs the trial again.
            sweep.study.tell(0, state=TrialState.FAIL)
            run_again(sweep.study, sweep.study.trials[0])
        return Result("done", 90.0, 1)

    place = Fake(end)
    sweep = sweep_of(place, 1)
    sweep.run()
    first, again = sweep.study.trials
    assert (first.state, again.value) == (TrialState.FAIL, 90.0)
    assert first.params == again.params
    assert place.answers == [[True], [False]]


@pytest.mark.parametrize(("usable", "expected"), [("true", 1), ("false", 3)])
def test_trials_run_side_by_side_on_cores_and_one_after_the_other_on_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, usable: str, expected: int
) -> None:
    program = tmp_path / "program"
    program.write_text(f"""#!/bin/sh\necho '{{"cuda": {{"usable": {usable}}}}}'\n""")
    program.chmod(0o755)
    monkeypatch.setattr(places, "cores", lambda: 3)
    assert places.at_once(program) == expected
