"""Searches for the best settings of `tch-mnist train`: trials drawn and pruned by Optuna, here or on a Ray cluster.

python scripts/sweep.py SPACE.toml --trials 50

Trials are chosen by their accuracy on images held out of the training split. The folder --out gets sweep.csv, best.toml
(for `tch-mnist train --config`), pictures, and report.json: the test accuracy of the best settings and of [fixed]
alone. The same command goes on with a sweep that was stopped or killed. docs/sweeps.md says more.
"""

import argparse
import fcntl
import os
import shutil
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import NoReturn

import optuna
from common import PROGRAM, ROOT
from sweeping import known, objectives, pictures, results, space, study, winner
from sweeping.places import Cluster, Machine, Place, at_once, cores
from sweeping.progress import Progress
from sweeping.settings import Setting, flags
from sweeping.space import UsageError
from sweeping.storage import SweepFailed, open_storage
from sweeping.study import Sweep, finished


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence."""

    def error(self, message: str) -> NoReturn:
        """Ends the process."""
        raise UsageError(f"{message}; scripts/sweep.py --help lists the flags")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""

    def count(text: str) -> int:
        if not text.isdecimal():
            raise argparse.ArgumentTypeError(f"a whole number from 0 up is expected, not {text}")
        return int(text)

    def amount(text: str) -> float:
        try:
            if 0 <= float(text) < float("inf"):
                return float(text)
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"a number from 0 up is expected, not {text}")

    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("space", type=Path, metavar="SPACE.toml", help="what is fixed and what varies; see docs/sweeps.md")
    add("--sampler", choices=["tpe", "random", "grid"], default="tpe", help="what draws the trials (default: tpe)")
    add(
        "--pruner",
        choices=["hyperband", "halving", "none"],
        help="what ends poor trials early (default: hyperband; with several objectives none)",
    )
    add("--trials", type=count, default=50, help="total number of trials, earlier calls included (default: 50)")
    add(
        "--enqueue",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="known good settings to try first: a config.toml of a run or a best.toml; may be given several times",
    )
    add(
        "--jobs",
        type=count,
        help="trials at once (default: one per core, one on a GPU; with --ray as many as there is room for)",
    )
    add("--timeout", type=amount, metavar="SECONDS", help="start no trial after this time; running ones are ended")
    add("--out", type=Path, metavar="DIR", help="the sweep's folder (default: runs/sweep-NAME, of NAME.toml)")
    add("--storage", metavar="URL", help="the URL of a database, or the file of a journal (default: DIR/sweep.journal)")
    add("--study", metavar="NAME", help="the study's name in the storage (default: the name of the space file)")
    add("--data", type=Path, default=ROOT / "data", metavar="DIR", help="the folder of the datasets (default: data)")
    add("--program", type=Path, default=PROGRAM, metavar="PATH", help="default: target/release/tch-mnist")
    add("--ray", metavar="ADDRESS", help="a Ray cluster for the trials: auto, HOST:PORT, or local to start one here")
    add("--cpus-per-trial", type=count, metavar="N", help="threads per trial (default: cores / jobs; with --ray 1)")
    add(
        "--gpus-per-trial",
        type=amount,
        default=0.0,
        metavar="X",
        help="with --ray: GPUs, or a share of one (default: 0)",
    )
    add(
        "--report-seeds",
        type=count,
        default=3,
        metavar="N",
        help="seeds of the final comparison on the test set; 0: none (default: 3)",
    )
    args = parser.parse_args(arguments)
    if args.jobs == 0 or args.cpus_per_trial == 0 or args.trials == 0:
        parser.error("--trials, --jobs and --cpus-per-trial take at least 1")
    if args.gpus_per_trial and not args.ray:
        parser.error("--gpus-per-trial is for --ray")
    if args.enqueue and args.sampler == "grid":
        parser.error("--enqueue is not for --sampler grid, which tries its own points")
    return args


class Stop:
    """Ctrl-C and SIGTERM: they stop the place, and with it every trial, which goes back into the study."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.signal = 0
        for number in [signal.SIGINT, signal.SIGTERM]:
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: object) -> None:
        self.signal = number
        # In a thread: whatever this one was doing may hold a lock.
        threading.Thread(target=self.place.stop).start()


def lock(out: Path) -> int:
    """Locks the folder against other sweeps for the life of this process."""
    out.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(out / "sweep.lock", os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(f"another sweep is at work in {out}: give this one another --out") from None
    return descriptor


def pruner_of(args: argparse.Namespace, searched: space.Space) -> str:
    """The name of the pruner."""
    if len(searched.objectives) == 1:
        return args.pruner or "hyperband"
    if args.pruner not in (None, "none"):
        names = " and ".join(searched.objectives)
        raise UsageError(f"--pruner {args.pruner} prunes by the accuracy alone, not by {names}: leave it out")
    return "none"


def place_of(args: argparse.Namespace) -> tuple[Place, int]:
    """Where trials run, and the threads of each."""
    if args.ray is None:
        jobs = args.jobs or at_once(args.program)
        return Machine(jobs), args.cpus_per_trial or max(1, cores() // jobs)
    threads = args.cpus_per_trial or 1
    return Cluster(args.ray, args.jobs, threads, args.gpus_per_trial), threads


def sweep(args: argparse.Namespace) -> int:
    """Runs the sweep; returns the exit code."""
    searched = space.read(args.space)
    pruner = pruner_of(args, searched)
    points = searched.grid() if args.sampler == "grid" else []
    defaults = space.check(searched, args.program)
    tried_first = [known.read(path, searched, args.program) for path in args.enqueue]
    out = (args.out or Path("runs") / f"sweep-{searched.name}").resolve()
    held = lock(out)
    journal = out / "sweep.journal"
    if args.storage is None:
        # Only this process writes it: an existing lock was left by a process that was killed.
        Path(f"{journal}.lock").unlink(missing_ok=True)
    place, threads = place_of(args)
    # After Ray, which installs handlers of its own.
    stop = Stop(place)

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # What a thread of Optuna's cannot write, the sweep itself cannot write either, and says so.
    threading.excepthook = lambda it: None if it.exc_type is SweepFailed else threading.__excepthook__(it)
    drawn_epochs = searched.distributions.get("epochs")
    opened = study.open_study(
        open_storage(args.storage or str(journal), lambda: place.stopped, exclusive=args.storage is None),
        args.study or searched.name,
        searched,
        study.make_sampler(args.sampler, searched.conditional and len(searched.objectives) == 1),
        study.make_pruner(pruner, max(space.ends_of(drawn_epochs)) if drawn_epochs else defaults["epochs"]),
    )
    trials = min(args.trials, len(points)) if points else args.trials
    for settings in space.spread(points, trials) or tried_first:
        opened.enqueue_trial(settings, skip_if_exists=True)

    program = [str(args.program.absolute()), "train", "-q", "--log-format=json", f"--data={args.data.absolute()}"]
    # Trials need no report; settings in [fixed] come later and win.
    unseen = ["--report=false", "--tensorboard=false"]
    seed = defaults["seed"]
    searching = Sweep(
        study=opened,
        space=searched,
        command=[*program, f"--threads={threads}", *unseen, *flags(searched.fixed)],
        seeds=list(range(seed, seed + searched.seeds)),
        place=place,
        trials=trials,
        owner=f"{socket.gethostname()}:{out}",
        exclusive=args.storage is None,
        scratch=None if args.ray else out / "scratch",
        timeout=args.timeout,
    )
    try:
        search(searching, out)
        if not stop.signal:
            finish(searching, out, defaults, args.report_seeds)
    finally:
        place.stop()
        os.close(held)
    if stop.signal:
        print("stopped; the same command goes on with the sweep", file=sys.stderr)
        return 128 + stop.signal
    return 0


def search(searching: Sweep, out: Path) -> None:
    """Runs the trials, and writes sweep.csv."""
    progress = Progress(searching.study, searching.trials, searching.place.jobs, searching.timeout)
    searching.ended = progress.ended
    scratch = out / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        searching.run()
    finally:
        progress.close()
        results.write_table(out / "sweep.csv", searching.study, finished(searching.study), searching.space)
        shutil.rmtree(scratch, ignore_errors=True)


def finish(searching: Sweep, out: Path, defaults: dict[str, Setting], report_seeds: int) -> None:
    """The results of a sweep that is done."""
    searched, seeds, trials = searching.space, searching.seeds, finished(searching.study)
    print(study.summary(trials, lambda trial: trial.params.get("epochs", defaults["epochs"]) * len(seeds)))
    front = objectives.front(searching.study)
    if not front:
        raise SweepFailed(f"no trial was trained to its end: {out / 'sweep.csv'} lists what became of them")
    best = {**searched.fixed, **front[0].params}
    path = out / "best.toml"
    held_out = {"validation": searched.validation} if winner.needs_held_out(searching.command, best) else {}
    results.write_settings(path, searching.study.study_name, front[0], {**best, **held_out})
    if missing := pictures.draw(out, searching.study, trials, searched):
        print(f"too few trials for the picture of {' and of '.join(missing)}", file=sys.stderr)
    if len(searched.objectives) > 1:
        print(f"Pareto front: trials {', '.join(str(trial.number) for trial in front)}")
    print(f"best: trial {front[0].number}, validation accuracy {front[0].values[0]:.2f} %, {path}")
    if report_seeds:
        fresh = list(range(seeds[-1] + 1, seeds[-1] + 1 + report_seeds))
        candidates = {"best": best, "defaults": searched.fixed}
        report = winner.report(out, searching.place, searching.command, searched.held_out, candidates, fresh)
        if report is not None:
            print(winner.text(report))


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    try:
        return sweep(parse(arguments))
    except (UsageError, SweepFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


if __name__ == "__main__":
    sys.exit(main())
