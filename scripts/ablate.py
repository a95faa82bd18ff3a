"""Measures what each ingredient of a recipe gains: the recipe as it is, and variants of it, from the same seeds.

    python scripts/ablate.py docs/ablations.toml --recipe best --jobs 2

In FILE.toml a table of a recipe, as [best."no average"], names a variant and holds the settings that it changes; the
first one, empty, is the recipe itself. Each run holds --validation training images out, other ones for each seed, and
is measured on them after its last epoch; the test images have no part in it. Finished runs are kept in --out under all
their settings, so that the same command goes on where it was stopped, and nothing stale is taken for new.

A recipe has other settings on a GPU, and `best` has others with teachers: --device, and `teacher` in a variant, choose
the form of the recipe.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from common import PROGRAM, ROOT, need_program, spread, write_json
from sweeping.settings import flags


def config(settings: dict, seed: int, args: argparse.Namespace) -> str:
    """All settings of a run, as the program prints them after checking them."""
    own = {"recipe": args.recipe, **settings, "seed": seed, "validation": args.validation, "tta": True}
    own |= {"limit_train": args.limit_train, "report": False, "tensorboard": False}
    own |= {"device": args.device, "threads": args.threads}
    line = [PROGRAM, "train", "--print-config", f"--data={args.data}", *flags(own)]
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"error: the settings {settings} were refused (see above)")
    return done.stdout


def train(settings: str) -> dict:
    """The last line of a run, with its accuracy on the images held out."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "config.toml")
        file.write_text(settings)
        line = [PROGRAM, "train", "-q", "--log-format=json", f"--config={file}", f"--out={folder}/run"]
        done = subprocess.run(line, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"error: a training ended with the exit code {done.returncode} (see above)")
    return json.loads(done.stdout.splitlines()[-1])


def table(results: dict[str, list[dict]]) -> str:
    """The variants in Markdown; differences are those to the first one, seed by seed."""
    lines = [
        "| variant | n | accuracy, % | difference, points | difference of the loss, nats | with TTA, % |",
        "|---|---|---|---|---|---|",
    ]
    recipe = next(iter(results.values()))
    for name, runs in results.items():
        accuracy = spread([run["validation_accuracy"] for run in runs], ".3f")
        points = difference(runs, recipe, "validation_accuracy", "+.3f")
        nats = difference(runs, recipe, "validation_loss", "+.4f")
        tta = statistics.mean(run["tta_validation_accuracy"] for run in runs)
        lines.append(f"| {name} | {len(runs)} | {accuracy} | {points} | {nats} | {tta:.3f} |")
    return "\n".join(lines)


def difference(runs: list[dict], recipe: list[dict], key: str, form: str) -> str:
    """Mean and standard error of variant minus recipe; a dash where they are the same."""
    differences = [run[key] - its_recipe[key] for run, its_recipe in zip(runs, recipe, strict=True)]
    return spread(differences, form) if any(differences) else "-"


def read_variants(file: Path, recipe: str) -> dict[str, dict]:
    """The variants of a recipe; exits with a sentence if there are none."""
    try:
        tables = tomllib.loads(file.read_text())
    except OSError as error:
        sys.exit(f"error: {file} cannot be read: {error.strerror}; docs/ablations.toml is an example")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        sys.exit(f"error: {file} is not TOML: {error}")
    variants = tables.get(recipe)
    if not isinstance(variants, dict) or not variants:
        sys.exit(f"error: {file} has no table [{recipe}.NAME]")
    for name, settings in variants.items():
        if not isinstance(settings, dict):
            sys.exit(
                f"error: {file}: {recipe}.{name} is not a table: write [{recipe}.NAME] above the settings of a variant"
            )
    return variants


def arguments() -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", metavar="FILE.toml", type=Path, help="the variants")
    parser.add_argument("--recipe", default="best", help="which recipe, and which table of the file (default: best)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="default: 1 2 3")
    parser.add_argument("--validation", type=int, default=10000, help="images held out (default: 10000)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once (default: 1)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads per run (default: 1)")
    parser.add_argument("--limit-train", type=int, default=0, help="the first N training images only; 0: all")
    parser.add_argument("--data", type=Path, default=ROOT / "data", help="the folder with the data (default: data)")
    parser.add_argument("--out", type=Path, default=Path("ablations.json"), help="default: ablations.json")
    args = parser.parse_args()
    if args.jobs < 1 or args.validation < 1:
        parser.error("--jobs and --validation take whole numbers from 1 up")
    need_program()
    return args


def main() -> None:
    """Trains the runs that are missing, and prints the table."""
    args = arguments()
    variants = read_variants(args.file, args.recipe)
    known = json.loads(args.out.read_text()) if args.out.exists() else {}
    configs = {(name, seed): config(variants[name], seed, args) for name in variants for seed in args.seeds}
    with ThreadPoolExecutor(args.jobs) as pool:
        jobs = {pool.submit(train, text): key for key, text in configs.items() if text not in known}
        try:
            for job in as_completed(jobs):
                name, seed = jobs[job]
                known[configs[name, seed]] = job.result()
                write_json(args.out, known)
                print(f"{name}, seed {seed}: {job.result()['validation_accuracy']:.2f} %", file=sys.stderr)
        finally:
            # After a failure, no other run is started.
            pool.shutdown(cancel_futures=True)
    print(table({name: [known[configs[name, seed]] for seed in args.seeds] for name in variants}))


if __name__ == "__main__":
    main()
