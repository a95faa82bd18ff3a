"""Sweeps: real ones of very short trials, killed, stopped, spread over a Ray cluster, and refused."""

import contextlib
import csv
import fcntl
import itertools
import json
import os
import pty
import signal
import statistics
import struct
import subprocess
import sys
import termios
import time
import tomllib
import xml.etree.ElementTree
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
import sweep
from conftest import DATA, PROGRAM, ROOT, json_lines, tch_mnist
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from sweeping import space
from sweeping.places import Machine
from sweeping.study import is_finished
from sweeping.trial import Job

FIXED = {"epochs": 2, "limit_train": 640, "limit_test": 256, "device": "cpu"}
RANDOM = """
lr = { type = "log-float", low = 0.003, high = 0.3 }
momentum = { type = "float", low = 0.5, high = 0.98 }
batch-size = { type = "int", low = 32, high = 64, step = 8 }
schedule = { type = "choice", values = ["step", "cosine"] }
"""


def write_space(folder: Path, ranges: str, head: str = "validation = 128", **fixed: object) -> Path:
    """A space file of trials that take about a second."""
    lines = [head, "[fixed]", *(f"{key} = {json.dumps(value)}" for key, value in {**FIXED, **fixed}.items())]
    path = folder / "quick.toml"
    path.write_text("\n".join([*lines, "[space]", ranges]))
    return path


def command(file: Path, *args: object) -> list[str]:
    """A sweep of `file` into a folder beside it, by a program that can be told from others by its path."""
    program = file.parent / "tch-mnist"
    if not program.exists():
        program.symlink_to(PROGRAM)
    script = ROOT / "scripts/sweep.py"
    # One thread per trial: the machine may be busy.
    flags = ["--data", DATA, "--program", program, "--out", file.parent / "out", "--cpus-per-trial", 1]
    flags += ["--report-seeds", 0, *args]
    return [str(part) for part in [sys.executable, script, file, *flags]]


def run(*command_line: str) -> subprocess.CompletedProcess:
    """Runs a sweep to its end."""
    done = subprocess.run(command_line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def trials(file: Path) -> list[FrozenTrial]:
    """All trials in the storage."""
    storage = JournalStorage(JournalFileBackend(str(file.parent / "out/sweep.journal")))
    return optuna.load_study(study_name=file.stem, storage=storage).trials


def children(file: Path) -> list[str]:
    """The runs of the sweep's program that are alive."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = process.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0] == bytes(file.parent / "tch-mnist"):
            found.append(b" ".join(words).decode())
    return found


def wait_until_gone(file: Path) -> None:
    """Waits until the processes have ended; the kernel may take a moment."""
    for _ in range(300):
        if not children(file):
            return
        time.sleep(0.1)
    pytest.fail(f"still alive: {children(file)}")


def finished_lines(process: subprocess.Popen) -> Iterator[str]:
    """The lines with which a sweep says that a trial has ended."""
    return (line for line in process.stderr if line.startswith("trial "))


def read_terminal(terminal: int) -> str:
    """What a process writes on its terminal until it ends."""
    shown = b""
    # On Linux the end is an error.
    with contextlib.suppress(OSError):
        while chunk := os.read(terminal, 1000):
            shown += chunk
    return shown.decode()


def assert_each_once(all_trials: list[FrozenTrial], count: int) -> None:
    """Asserts that this many trials count, none twice, and that each lost one was replaced."""
    ended = [trial for trial in all_trials if is_finished(trial)]
    settings = [json.dumps(trial.params, sort_keys=True) for trial in ended]
    assert len(ended) == count and len(set(settings)) == count
    for trial in all_trials:
        assert trial.state.is_finished()
        if not is_finished(trial) and trial.params:
            assert json.dumps(trial.params, sort_keys=True) in settings


def test_a_sweep_from_its_space_to_its_report(tmp_path: Path) -> None:
    file = write_space(tmp_path, RANDOM, "validation = 128\nseeds = 2")
    line = command(file, "--trials", 4, "--jobs", 2, "--pruner", "none", "--report-seeds", 2)
    done = run(*line)
    out = tmp_path / "out"

    assert_each_once(trials(file), 4)
    rows = list(csv.DictReader((out / "sweep.csv").open()))
    assert [row["status"] for row in rows] == ["done"] * 4
    assert [float(row["validation_accuracy"]) for row in rows] == [trial.value for trial in trials(file)]

    # The best trial's value is what the program says of its settings, the mean over the seeds.
    def train(seed: int, *flags: object) -> dict:
        config, folder = out / "best.toml", out / f"again-{seed}"
        flags = ["--config", config, "--data", DATA, "--seed", seed, "--out", folder, "--threads", 1, *flags]
        return json_lines(tch_mnist("train", "-q", "--log-format", "json", *flags))[-1]

    best = max(rows, key=lambda row: float(row["validation_accuracy"]))
    again = [train(seed, "--validation", 128)["validation_accuracy"] for seed in [1, 2]]
    assert statistics.mean(again) == float(best["validation_accuracy"])

    # The report: other seeds, the whole training split, the test images.
    report = json.loads((out / "report.json").read_text())
    assert report["best"]["seeds"] == report["defaults"]["seeds"] == [3, 4]
    assert report["best"]["test_accuracy"][0] == train(3)["test_accuracy"]
    assert report["defaults"]["settings"] == FIXED
    for entry in report.values():
        assert entry["mean"] == statistics.mean(entry["test_accuracy"])
        assert entry["std"] == statistics.stdev(entry["test_accuracy"])
    assert f"best: test accuracy {report['best']['mean']:.2f}" in done.stdout

    assert "too few trials for the picture of importance (it takes 30 with an accuracy, and there are 4)" in done.stderr
    for name in ["parallel", "accuracy"]:
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert xml.etree.ElementTree.parse(out / f"{name}.svg").getroot().tag.endswith("svg")

    # A finished sweep does nothing more.
    before = (out / "report.json").stat().st_mtime_ns
    assert "trial " not in run(*line).stderr
    assert (len(trials(file)), (out / "report.json").stat().st_mtime_ns) == (4, before)


def test_a_grid_whose_poor_points_are_pruned(tmp_path: Path) -> None:
    # All rates but one learn nothing, so that chance does not decide which are pruned.
    ranges = """
lr = { type = "choice", values = [0.05, 1e-9, 1e-10] }
momentum = { type = "float", low = 0.8, high = 0.9, points = 2 }
"""
    file = write_space(tmp_path, ranges, epochs=3, limit_train=1280, batch_size=16)
    line = command(file, "--sampler", "grid", "--pruner", "halving", "--trials", 100)
    # With a terminal on stderr there is a bar instead of lines.
    terminal, stderr = pty.openpty()
    fcntl.ioctl(stderr, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=stderr, text=True) as process:
        os.close(stderr)
        shown = read_terminal(terminal)
        said = process.stdout.read()
    assert process.returncode == 0, shown

    ended = trials(file)
    points = {(trial.params["lr"], trial.params["momentum"]) for trial in ended}
    assert points == set(itertools.product([0.05, 1e-9, 1e-10], [0.8, 0.9]))
    assert len(ended) == 6
    good = [trial for trial in ended if trial.params["lr"] == 0.05]
    assert good[0].state == TrialState.COMPLETE
    pruned = [trial for trial in ended if trial.state == TrialState.PRUNED]
    assert {trial.number for trial in ended if trial.number > good[0].number} - {good[1].number} <= {
        trial.number for trial in pruned
    }
    # The program was stopped: it trained at most one epoch after the one that decided.
    assert pruned and all(trial.user_attrs["epochs"] < 3 for trial in pruned)
    assert f"{len(pruned)} pruned" in said
    assert "6/6" in shown and f"best {max(trial.value for trial in good):.2f} %" in shown


def test_a_sweep_that_is_killed_leaves_no_orphan_and_goes_on(tmp_path: Path) -> None:
    file = write_space(tmp_path, RANDOM, epochs=20)
    line = command(file, "--trials", 8, "--jobs", 2)
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process:
        next(finished_lines(process))
        # The next ones have begun, and have most of their epochs before them.
        while len(children(file)) < 2:
            time.sleep(0.02)
        process.kill()
    wait_until_gone(file)
    # A process may be killed while it holds the journal's lock.
    lock = tmp_path / "out/sweep.journal.lock"
    if not lock.is_symlink():
        lock.symlink_to("sweep.journal")
    before = trials(file)
    run(*line)
    after = trials(file)
    assert_each_once(after, 8)
    assert any(trial.state == TrialState.RUNNING for trial in before)
    for old, new in zip(before, after, strict=False):
        if is_finished(old):
            assert old == new


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_no_child_and_loses_no_trial(tmp_path: Path, number: int) -> None:
    file = write_space(tmp_path, RANDOM, epochs=1000)
    with subprocess.Popen(command(file, "--jobs", 2), stderr=subprocess.PIPE, text=True) as process:
        while len(children(file)) < 2:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        said = process.stderr.read()
        assert process.wait() == 128 + number, said
    assert not children(file)
    assert "stopped; the same command goes on" in said
    ended = trials(file)
    lost, again = ([it.params for it in ended if it.state == state] for state in [TrialState.FAIL, TrialState.WAITING])
    assert sorted(lost, key=str) == sorted(again, key=str) and len(lost) == 2


def test_a_winner_that_needs_held_out_images_is_tested_all_the_same(tmp_path: Path) -> None:
    file = write_space(tmp_path, "lr = { type = 'float', low = 0.01, high = 0.02 }", keep="best")
    known = tmp_path / "known.toml"
    known.write_text("lr = 0.0125\n")
    run(*command(file, "--trials", 1, "--report-seeds", 1, "--enqueue", known))
    best = tmp_path / "out/best.toml"
    assert tomllib.loads(best.read_text()).items() >= {"lr": 0.0125, "keep": "best", "validation": 128}.items()
    tch_mnist("train", "--config", best, "--print-config")
    report = json.loads((tmp_path / "out/report.json").read_text())
    for name in ["best", "defaults"]:
        weights = tmp_path / f"out/report/{name}-seed-2/model.safetensors"
        flags = ["--data", DATA, "--weights", weights, "--limit-test", 256, "--log-format", "json"]
        assert report[name]["test_accuracy"] == [json.loads(tch_mnist("evaluate", *flags))["test_accuracy"]]


def test_conditional_settings_and_a_front_after_known_settings(tmp_path: Path) -> None:
    ranges = """
gamma = { type = "float", low = 0.1, high = 0.9, when = { schedule = "step" } }
schedule = { type = "choice", values = ["step", "cosine"] }
momentum = { type = "choice", values = [0.5, 0.9] }
"""
    head = 'validation = 128\nobjectives = ["accuracy", "seconds", "parameters"]'
    file = write_space(tmp_path, ranges, head, limit_train=256, epochs=1)
    known = [tmp_path / "step.toml", tmp_path / "cosine.toml"]
    known[0].write_text("schedule = 'step'\ngamma = 0.5\nmomentum = 0.5\nepochs = 99\n")
    known[1].write_text("schedule = 'cosine'\n")
    line = command(file, "--trials", 4, "--jobs", 2, "--enqueue", known[0], "--enqueue", known[1])
    said = run(*line).stdout
    out = tmp_path / "out"
    rows = list(csv.DictReader((out / "sweep.csv").open()))
    assert len(rows) == len(trials(file)) == 4
    assert [(row["schedule"], row["gamma"], row["momentum"]) for row in rows[:2]] == [
        ("step", "0.5", "0.5"),
        ("cosine", "", "0.9"),
    ]
    assert all((row["gamma"] == "") == (row["schedule"] == "cosine") for row in rows)
    assert {row["parameters"] for row in rows} == {"11392.0"}
    assert all(0 < float(row["training_seconds"]) < float(row["seconds"]) for row in rows)

    points = [(-float(row["validation_accuracy"]), float(row["training_seconds"])) for row in rows]
    beaten = [any(a <= x and b <= y and (a, b) != (x, y) for a, b in points) for x, y in points]
    assert [row["front"] for row in rows] == ["no" if one else "yes" for one in beaten]
    best = max((row for row in rows if row["front"] == "yes"), key=lambda row: float(row["validation_accuracy"]))
    config = space.tomllib.loads((out / "best.toml").read_text())
    assert config["schedule"] == best["schedule"] and str(config.get("gamma", "")) == best["gamma"]
    assert "Pareto front: trials" in said and f"best: trial {best['trial']}" in said
    for name in ["parallel", "accuracy", "pareto"]:
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_combination_that_the_program_refuses_is_a_failed_trial(tmp_path: Path) -> None:
    ranges = """
nesterov = { type = "choice", values = [true, false] }
momentum = { type = "choice", values = [0.9, 0.0] }
"""
    file = write_space(tmp_path, ranges, limit_train=256, epochs=1)
    done = run(*command(file, "--sampler", "grid", "--jobs", 2))
    rows = list(csv.DictReader((tmp_path / "out/sweep.csv").open()))
    failed = [row for row in rows if row["status"] == "failed"]
    assert len(rows) == 4 and [(row["nesterov"], row["momentum"]) for row in failed] == [("true", "0.0")]
    assert failed[0]["error"].startswith("--nesterov takes a --momentum above 0")
    assert f"trial {failed[0]['trial']} failed: {failed[0]['error']}\n" in done.stderr


def test_a_trial_that_diverges_is_the_worst_and_one_that_fails_is_told(tmp_path: Path) -> None:
    file = write_space(tmp_path, 'lr = { type = "choice", values = [0.01, 1e30] }')
    done = run(*command(file, "--sampler", "grid"))
    rows = list(csv.DictReader((tmp_path / "out/sweep.csv").open()))
    assert {(row["lr"], row["status"]) for row in rows} == {("0.01", "done"), ("1e+30", "diverged")}
    assert [row["validation_accuracy"] for row in rows if row["status"] == "diverged"] == ["0.0"]
    assert "2 trials: 2 complete (1 of them diverged)" in done.stdout

    file = write_space(tmp_path, RANDOM, init="/nowhere/model.pt")
    line = command(file, "--out", tmp_path / "failing", "--jobs", 2)
    done = subprocess.run(line, capture_output=True, text=True)
    sentence = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert sentence.startswith("error: 3 trials failed in a row") and "/nowhere/model.pt" in sentence


CLUSTER = """
import sys
from ray.cluster_utils import Cluster

node = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 80_000_000}
cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
second = cluster.add_node(**node)
print(cluster.address, flush=True)
sys.stdin.readline()
cluster.remove_node(second, allow_graceful=False)
print("killed", flush=True)
sys.stdin.readline()
cluster.shutdown()
"""


def test_a_node_of_a_ray_cluster_is_killed_and_every_trial_ends(tmp_path: Path) -> None:
    file = write_space(tmp_path, RANDOM)
    cluster = subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with cluster:
        address = cluster.stdout.readline().strip()
        line = command(file, "--trials", 6, "--pruner", "halving", "--ray", address, "--gpus-per-trial", 0.5)
        with subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            next(finished_lines(process))
            # Both nodes are busy now, with one job each.
            cluster.stdin.write("\n")
            cluster.stdin.flush()
            assert cluster.stdout.readline() == "killed\n"
            said = process.stderr.read()
            assert process.wait() == 0, said
        cluster.communicate("\n")
    assert_each_once(trials(file), 6)
    wait_until_gone(file)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("validation = 9\n[space]\nlr = { type = 'float', low = 1, high = 2 }\nx", "it is not TOML: "),
        ("validation = 9\n[spaces]\n", "spaces is not a key of a space file"),
        ("[space]\nlr = { type = 'float', low = 1, high = 2 }", "validation is missing"),
        ("validation = 0\n[space]\n", "validation takes a whole number from 1 up, not 0"),
        ("validation = 9\nseeds = 1.5\n[space]\n", "seeds takes a whole number from 1 up, not 1.5"),
        ("validation = 9\nfixed = 3\n", "fixed is not a table"),
        ("validation = 9\n", "[space] names nothing to vary"),
        ("validation = 9\n[space]\nseed = { type = 'int', low = 1, high = 2 }", "seed is the sweep's own"),
        ("validation = 9\n[fixed]\nthreads = 2\n[space]\nlr = 1", "threads is the sweep's own"),
        ("validation = 9\n[fixed]\nlr = [1]\n[space]\nmomentum = 1", "[fixed] lr takes a text, a number"),
        (
            "validation = 9\n[fixed]\nlr = 1\n[space]\nlr = { type = 'float', low = 1, high = 2 }",
            "lr is both in [fixed] and in [space]",
        ),
    ],
)
def test_a_space_file_with_a_mistake_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text)
    with pytest.raises(space.UsageError) as error:
        space.read(file)
    assert str(error.value).startswith(f"{file}: {reason}")


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("3", 'write { type = "...", ... }'),
        ("{ type = 'double' }", 'write { type = "...", ... }'),
        ("{ type = 'float', low = 1 }", "the type float needs high"),
        ("{ type = 'float', low = 1, high = 2, values = [1] }", "values is not a key of the type float"),
        ("{ type = 'float', low = 2, high = 1 }", "low is 2, and must be below high, which is 1"),
        ("{ type = 'float', low = 'a', high = 1 }", "low takes a number, not 'a'"),
        ("{ type = 'float', low = nan, high = 1 }", "low takes a number, not nan"),
        ("{ type = 'float', low = 1, high = 2, step = 0 }", "`step > 0` must hold"),
        ("{ type = 'log-float', low = 0, high = 1 }", "`low > 0` must hold for `log=True`"),
        ("{ type = 'log-float', low = 1, high = 2, points = 1 }", "points is 1, and must be at least 2"),
        ("{ type = 'int', low = 0.5, high = 2 }", "low takes a whole number, not 0.5"),
        ("{ type = 'choice', values = [] }", "values takes a list"),
        ("{ type = 'choice', values = [[1]] }", "values takes a list"),
    ],
)
def test_a_range_with_a_mistake_is_refused(tmp_path: Path, entry: str, reason: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(f"validation = 9\n[space]\nlr = {entry}")
    with pytest.raises(space.UsageError) as error:
        space.read(file)
    assert str(error.value).startswith(f"{file}: [space] lr: {reason}")


@pytest.mark.parametrize(
    ("ranges", "flags", "reason"),
    [
        ("learning_rate = { type = 'float', low = 1, high = 2 }", [], "learning_rate is not a flag here: use --lr"),
        ("schedule = { type = 'choice', values = ['step', 'zigzag'] }", [], ": schedule takes step, "),
        ("momentum = { type = 'float', low = 0, high = 1.5 }", [], ": momentum takes a number from 0 to below 1"),
        ("lr = { type = 'float', low = 1, high = 2 }", ["--program", "/nowhere"], "--program /nowhere cannot be run"),
        ("lr = { type = 'float', low = 1, high = 2 }", ["--sampler", "grid"], "--sampler grid needs to know how many"),
        ("lr = { type = 'float', low = 1, high = 2 }", ["--sampler", "best"], "argument --sampler: invalid choice"),
        ("lr = { type = 'float', low = 1, high = 2 }", ["--jobs", "0"], "--jobs and --cpus-per-trial take at least 1"),
        ("lr = { type = 'float', low = 1, high = 2 }", ["--gpus-per-trial", "1"], "--gpus-per-trial is for --ray"),
        (
            "lr = { type = 'float', low = 1, high = 2, points = 2 }",
            ["--sampler", "grid", "--enqueue", "best.toml"],
            "--enqueue is not for --sampler grid",
        ),
        ("lr = { type = 'float', low = 1, high = 2 }", ["--enqueue", "/nowhere"], "--enqueue /nowhere is not a file"),
        (
            "lr = { type = 'float', low = 1, high = 2 }",
            ["--storage", "nosql://x"],
            "--storage nosql://x cannot be opened",
        ),
    ],
)
def test_a_command_line_with_a_mistake_is_refused(
    tmp_path: Path, ranges: str, flags: list[str], reason: str, capsys: pytest.CaptureFixture
) -> None:
    file = write_space(tmp_path, ranges)
    code = sweep.main([str(file), "--program", str(PROGRAM), "--out", str(tmp_path / "out"), *flags])
    said = capsys.readouterr().err
    assert code == 2
    assert said.startswith("error: ") and said.count("\n") == 1 and reason in said
    assert not (tmp_path / "out/sweep.journal").exists()


def test_a_trial_that_stopped_early_is_worth_its_best_epoch(tmp_path: Path) -> None:
    # A rate that is raised far too high after two epochs: the third is worse, and the run stops.
    flags = ["--validation=128", "--limit-train=640", "--epochs=9", "--lr=0.05", "--schedule=multi-step", "--gamma=20"]
    flags += [
        "--batch-size=32",
        "--milestones=2",
        "--patience=1",
        "--keep=best",
        "--report=false",
        "--threads=1",
        f"--data={DATA}",
    ]
    command = [str(PROGRAM), "train", "-q", "--log-format=json", "--device=cpu", *flags]
    seen = []
    job = Job(command, [1], keep=tmp_path / "run")
    result = Machine(1).run(job, lambda _, accuracy: bool(seen.append(accuracy)))
    assert (result.status, result.epochs, result.accuracy) == ("done", len(seen), max(seen))
    assert len(seen) < 9
    assert seen[-1] < max(seen)


def test_several_objectives_are_not_pruned_by(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = write_space(tmp_path, RANDOM, 'validation = 128\nobjectives = ["accuracy", "seconds"]')
    assert sweep.main([str(file), "--pruner", "hyperband", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == (
        "error: --pruner hyperband prunes by the accuracy alone, not by accuracy and seconds: leave it out\n"
    )
