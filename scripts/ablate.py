"""Measures what each ingredient of a recipe buys: the recipe as it is, and variants of it, from the same seeds.

    python scripts/ablate.py docs/ablations.toml --recipe best --jobs 2

FILE.toml holds a table for each recipe, `[best.variants]` say, of names and the settings that each variant changes; a
variant without any is the recipe itself. Each run holds `validation` training images out, other ones for each seed, and
is measured on them after its last epoch; the test images have no part in it. Finished runs are kept in --out, so that
the same command goes on where it was stopped.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = Path(os.environ.get("TCH_MNIST", ROOT / "target/release/tch-mnist"))


def flags(settings: dict) -> list[str]:
    """Settings as flags of `train`."""
    text = {True: "true", False: "false"}
    return [f"--{key.replace('_', '-')}={text.get(value, value) if isinstance(value, bool) else value}"
            for key, value in settings.items()]  # fmt: skip


def train(settings: dict, seed: int, args: argparse.Namespace) -> dict:
    """One run: its accuracies on the images held out, plain and with TTA, and the seconds of its epochs."""
    with tempfile.TemporaryDirectory() as out:
        line = [PROGRAM, "train", "-q", "--log-format=json", "--tta", "--report=false", "--tensorboard=false"]
        line += [f"--recipe={args.recipe}", *flags(settings), f"--seed={seed}", f"--validation={args.validation}"]
        line += [f"--threads={args.threads}", f"--limit-train={args.limit_train}", f"--data={args.data}"]
        done = subprocess.run([*line, f"--out={out}/run"], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"error: a training ended with the exit code {done.returncode} (its own words are above)")
    last = json.loads(done.stdout.splitlines()[-1])
    names = {"accuracy": "validation_accuracy", "loss": "validation_loss", "tta_accuracy": "tta_validation_accuracy"}
    return {name: last[key] for name, key in names.items()}


def error(values: list[float]) -> float:
    """The standard error of a mean."""
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")


def table(results: dict[str, dict], seeds: list[int]) -> str:
    """The variants in Markdown; differences are those to the first one, seed by seed."""
    lines = ["| variant | n | accuracy, % | difference, points | with TTA, % |", "|---|---|---|---|---|"]
    base = next(iter(results.values()))
    for name, runs in results.items():
        values = [runs[str(seed)]["accuracy"] for seed in seeds]
        views = [runs[str(seed)]["tta_accuracy"] for seed in seeds]
        differences = [runs[str(seed)]["accuracy"] - base[str(seed)]["accuracy"] for seed in seeds]
        difference = f"{statistics.mean(differences):+.3f} ± {error(differences):.3f}" if runs is not base else "-"
        accuracy = f"{statistics.mean(values):.3f} ± {error(values):.3f}"
        lines.append(f"| {name} | {len(seeds)} | {accuracy} | {difference} | {statistics.mean(views):.3f} |")
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", metavar="FILE.toml", type=Path, help="the variants")
    parser.add_argument("--recipe", default="best", help="which recipe, and which table of the file (default: best)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="default: 1 2 3")
    parser.add_argument("--validation", type=int, default=10000, help="images held out (default: 10000)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once (default: 1)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads a run (default: 1)")
    parser.add_argument("--limit-train", type=int, default=0, help="the first N training images only; 0: all")
    parser.add_argument("--data", type=Path, default=ROOT / "data", help="the folder with the data (default: data)")
    parser.add_argument("--out", type=Path, default=Path("ablations.json"), help="default: ablations.json")
    args = parser.parse_args()
    if args.jobs < 1 or args.validation < 1:
        parser.error("--jobs and --validation take whole numbers from 1 up")
    return args


def main() -> None:
    """Trains what is missing, prints the table."""
    args = arguments()
    variants = tomllib.loads(args.file.read_text()).get(args.recipe)
    if not variants:
        sys.exit(f"error: {args.file} has no table [{args.recipe}]")
    known = json.loads(args.out.read_text()) if args.out.exists() else {}
    results = {name: known.get(name, {}) for name in variants}
    todo = [(name, seed) for seed in args.seeds for name in variants if str(seed) not in results[name]]

    with ThreadPoolExecutor(args.jobs) as pool:
        jobs = {pool.submit(train, variants[name], seed, args): (name, seed) for name, seed in todo}
        try:
            for job in as_completed(jobs):
                name, seed = jobs[job]
                results[name][str(seed)] = job.result()
                temporary = args.out.with_name(f".{args.out.name}.tmp")
                temporary.write_text(json.dumps(results, indent=1) + "\n")
                temporary.replace(args.out)
                print(f"{name}, seed {seed}: {job.result()['accuracy']:.2f} %", file=sys.stderr)
        finally:
            # After a failure, runs that have not begun do not begin.
            pool.shutdown(cancel_futures=True)
    print(table(results, args.seeds))


if __name__ == "__main__":
    main()
