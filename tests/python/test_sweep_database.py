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
from sweeping.claims import is_finished
from sweeping.space import UsageError, flags
from sweeping.storage import open_storage
from test_sweep import RANDOM, assert_each_once, command, finished_lines, write_space

pytestmark = postgres.needed

# The sweep, with less patience with a process from which nothing is heard.
SOON = """
import sys
from sweeping import study
study.HEARTBEAT, study.DEAD = 0.5, 4
sys.exit(sweep.main(sys.argv[1:]))
"""

# Notes the settings with which the program is run.
NOTING = f"""#!/bin/sh
case " $* " in *" --print-config "*) ;; *) echo "$*" | sed 's/.* --lr=/--lr=/; s/ --seed=.*//' >>"$0.runs" ;; esac
exec {PROGRAM} "$@"
"""


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    """One for all tests, each of which has a study of its own."""
    started = postgres.Server()
    yield started
    started.remove()


def start(server: postgres.Server, file: Path, name: str, *args: object) -> subprocess.Popen:
    """One of several sweeps on a study."""
    line = command(file, "--storage", server.url, "--study", file.parent.name, "--out", file.parent / name, *args)
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


def wait_for_running(server: postgres.Server, study: str, name: str) -> None:
    """Returns when the sweep of that name runs a trial."""
    while not any(
        trial.state == TrialState.RUNNING and trial.user_attrs.get("owner", "").endswith(f"/{name}")
        for trial in trials_of(server, study)
    ):
        time.sleep(0.05)


def assert_no_run_too_many(runs: Path, trials: list[FrozenTrial]) -> None:
    """Asserts that the program ran once for each trial that was started."""
    started = [trial for trial in trials if "owner" in trial.user_attrs]
    assert Counter(runs.read_text().splitlines()) == Counter(" ".join(flags(trial.params)) for trial in started)


def test_three_sweeps_share_a_study_and_one_is_killed(server: postgres.Server, tmp_path: Path) -> None:
    file = write_space(tmp_path, RANDOM)
    runs = write_noting_program(file)
    sweeps = {name: start(server, file, name, "--trials", 14) for name in ["a", "b", "c"]}
    next(finished_lines(sweeps["c"]))
    wait_for_running(server, tmp_path.name, "c")
    sweeps["c"].kill()
    said = {name: process.communicate()[1] for name, process in sweeps.items()}
    assert [process.returncode for process in sweeps.values()] == [0, 0, -signal.SIGKILL], said

    trials = trials_of(server, tmp_path.name)
    assert_each_once(trials, 14)
    assert_no_run_too_many(runs, trials)
    killed = [trial for trial in trials if trial.state == TrialState.FAIL and "owner" in trial.user_attrs]
    assert {trial.user_attrs["owner"].rsplit("/")[-1] for trial in killed} == {"c"}
    assert {trial.user_attrs["owner"].rsplit("/")[-1] for trial in trials if is_finished(trial)} == {"a", "b", "c"}


def test_sweeps_wait_for_a_server_that_is_started_again(server: postgres.Server, tmp_path: Path) -> None:
    file = write_space(tmp_path, "lr = { type = 'float', low = 0.01, high = 0.1, points = 9 }")
    runs = write_noting_program(file)
    sweeps = [start(server, file, name, "--sampler", "grid") for name in ["a", "b"]]
    next(finished_lines(sweeps[0]))
    server.stop()
    time.sleep(2)
    server.start()
    said = [process.communicate()[1] for process in sweeps]
    assert [process.returncode for process in sweeps] == [0, 0], said
    for text in said:
        assert "the database of --storage does not answer (" in text and "the database is back" in text

    trials = trials_of(server, tmp_path.name)
    assert_each_once(trials, 9)
    assert_no_run_too_many(runs, trials)


def refusal(url: str) -> str:
    """What is said of a storage that cannot be used."""
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
