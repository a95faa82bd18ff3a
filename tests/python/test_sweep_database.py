"""Sweeps that share a study in PostgreSQL: one is killed, the server goes away, and every trial is run exactly once."""

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import optuna
import postgres
import pytest
from conftest import PROGRAM
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sweeping.settings import flags
from sweeping.space import UsageError
from sweeping.storage import open_storage
from sweeping.study import Claims
from test_sweep import RANDOM, assert_each_once, command, write_space

pytestmark = postgres.needed

# The sweep, with less patience with a process from which nothing is heard.
SOON = """
import sys
import sweep
from sweeping import storage, study
storage.HEARTBEAT, storage.DEAD = 1, 8
study.DEAD = 8
sys.exit(sweep.main(sys.argv[1:]))
"""

# Notes the settings with which the program is run.
NOTING = f"""#!/bin/sh
case " $* " in *" --print-config "*) ;; *) echo "$*" | sed 's/.* --lr=/--lr=/; s/ --seed=.*//' >>"$0.runs" ;; esac
exec {PROGRAM} "$@"
"""


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    """One server for all tests; each test has its own study."""
    started = postgres.Server()
    yield started
    started.remove()


def start(server: postgres.Server, file: Path, name: str, *args: object) -> subprocess.Popen:
    """One of several sweeps on a study, a trial at a time."""
    shared = ["--storage", server.url, "--study", file.parent.name, "--jobs", 1]
    line = command(file, *shared, "--out", file.parent / name, *args)
    line[1:2] = ["-c", SOON]
    scripts = Path(__file__).parents[2] / "scripts"
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=scripts)


def write_noting_program(file: Path) -> Path:
    """A program for `command` that keeps a list of its runs, and the list."""
    program = file.parent / "tch-mnist"
    program.write_text(NOTING)
    program.chmod(0o755)
    return program.with_name("tch-mnist.runs")


def trials_of(server: postgres.Server, study: str) -> list[FrozenTrial]:
    """All trials of a study."""
    return optuna.load_study(study_name=study, storage=RDBStorage(server.url)).trials


def needed(trials: list[FrozenTrial], count: int) -> list[FrozenTrial]:
    """Those that are not surplus."""
    return list(Claims.of(trials, count).needed.values())


def wait_for_a_trial(process: subprocess.Popen) -> None:
    """Returns when a sweep says that a trial has ended."""
    said = ""
    for line in process.stderr:
        if line.startswith("trial "):
            return
        said += line
    pytest.fail(said)


def kill_while_it_runs_a_trial(
    sweep: subprocess.Popen, server: postgres.Server, study: str, name: str, runs: Path
) -> None:
    """Kills the sweep of that name when the program runs a trial for it, which is then in the list of `runs`.

    Stopped first, the sweep cannot end the trial meanwhile; but only for a moment, or the others take it for dead.
    """
    opened = optuna.load_study(study_name=study, storage=RDBStorage(server.url))
    while True:
        assert sweep.poll() is None, "it ended before it ran another trial"
        sweep.send_signal(signal.SIGSTOP)
        time.sleep(0.05)  # What it has sent arrives.
        noted = runs.read_text().splitlines()
        if any(
            trial.state == TrialState.RUNNING
            and trial.user_attrs.get("owner", "").endswith(f"/{name}")
            and " ".join(flags(trial.params)) in noted
            for trial in opened.trials
        ):
            break
        sweep.send_signal(signal.SIGCONT)
        time.sleep(0.05)
    sweep.kill()


def assert_no_run_too_many(runs: Path, trials: list[FrozenTrial]) -> None:
    """Asserts that the program ran once for each trial that was started."""
    started = [trial for trial in trials if "owner" in trial.user_attrs]
    assert Counter(runs.read_text().splitlines()) == Counter(" ".join(flags(trial.params)) for trial in started)


def test_three_sweeps_share_a_study_and_one_is_killed(server: postgres.Server, tmp_path: Path) -> None:
    file = write_space(tmp_path, RANDOM, epochs=1)
    runs = write_noting_program(file)
    sweeps = {name: start(server, file, name, "--trials", 9) for name in ["a", "b", "c"]}
    wait_for_a_trial(sweeps["c"])
    kill_while_it_runs_a_trial(sweeps["c"], server, tmp_path.name, "c", runs)
    said = {name: process.communicate()[1] for name, process in sweeps.items()}
    assert [process.returncode for process in sweeps.values()] == [0, 0, -signal.SIGKILL], said

    trials = trials_of(server, tmp_path.name)
    assert_each_once(needed(trials, 9), 9)
    assert_no_run_too_many(runs, trials)
    killed = [trial for trial in trials if trial.state == TrialState.FAIL and "owner" in trial.user_attrs]
    assert "c" in {trial.user_attrs["owner"].rsplit("/")[-1] for trial in killed}


def test_sweeps_wait_for_a_server_that_is_started_again(server: postgres.Server, tmp_path: Path) -> None:
    file = write_space(tmp_path, "lr = { type = 'float', low = 0.01, high = 0.1, points = 6 }", epochs=1)
    runs = write_noting_program(file)
    sweeps = [start(server, file, name, "--sampler", "grid") for name in ["a", "b"]]
    wait_for_a_trial(sweeps[0])
    server.stop()
    for process in sweeps:
        assert any("the database of --storage does not answer (" in line for line in process.stderr)
    server.start()
    said = [process.communicate()[1] for process in sweeps]
    assert [process.returncode for process in sweeps] == [0, 0], said
    assert all("the database is back" in text for text in said)

    trials = trials_of(server, tmp_path.name)
    assert_each_once(needed(trials, 6), 6)
    assert_no_run_too_many(runs, trials)


def refusal(url: str) -> str:
    """The error for a storage that cannot be used."""
    with pytest.raises(UsageError) as error:
        open_storage(url, stopped=lambda: False)
    said = str(error.value)
    assert said.startswith("--storage ") and "\n" not in said
    return said


def test_a_database_that_cannot_be_used_is_refused(server: postgres.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    said = refusal(server.url.replace("//postgres@", "//nobody:secret@"))
    assert 'role "nobody" does not exist' in said and "secret" not in said
    assert "Connection refused" in refusal("postgresql://postgres@127.0.0.1:1/postgres")
    assert "takes a file, or a URL like" in refusal("postgresql://postgres@127.0.0.1:port/postgres")
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert refusal(server.url).endswith("needs a driver: pip install 'psycopg[binary]'")
