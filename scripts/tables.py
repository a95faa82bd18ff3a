"""Writes the tables of README.md, docs/ and crates/*/README.md from the program's own lists (`tch-mnist lists`).

    .venv/bin/python scripts/tables.py            # writes them
    .venv/bin/python scripts/tables.py --check    # fails if a page differs

A table stands between two comments in its page: `<!-- schedules -->` and `<!-- end -->`.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from common import ROOT, lists


def readable() -> Iterator[list[str]]:
    """Rows of the weights formats that are read."""
    for weights in LISTS["formats"]:
        yield [", ".join([weights["title"], *endings(weights)]), weights["written_by"]]


def writable() -> Iterator[list[str]]:
    """Rows of the weights formats that are written."""
    for weights in LISTS["formats"]:
        if weights["endings"]:
            yield [", ".join(endings(weights)), weights["purpose"], f"`{weights['opens_with']}`", weights["keeps"]]


def endings(weights: dict) -> list[str]:
    """The endings of a weights format's files."""
    return [f"`.{ending}`" for ending in weights["endings"]]


HEADINGS = ["Data", "Net", "Optimizer", "Schedule", "Augmentation", "Device", "Run", "Output"]

MARKED = re.compile(r"(?P<begin><!-- (?P<name>[a-z]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """A table in Markdown."""
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in [head, *rows]]
    lines.insert(1, f"|{'---|' * len(head)}")
    return "\n".join(lines) + "\n"


def flag(key: str, value: str) -> str:
    """A setting as somebody types it."""
    name = f"--{key.replace('_', '-')}"
    return f"{name}={value}" if value in ("true", "false") else f"{name} {value}"


def kinds(choice: str) -> Iterator[list[str]]:
    """Rows of the kinds of which `--choice` takes one."""
    for kind in LISTS[f"{choice}s"]:
        own = " ".join(flag(setting["key"], shortened(setting["default"])) for setting in kind["settings"])
        yield [f"`{kind['name']}`", kind["about"], f"`{own}`" if own else ""]


def shortened(text: str) -> str:
    """A number without the digits that nobody types."""
    return f"{float(text):.3f}" if re.fullmatch(r"0\.\d{8,}", text) else text


def commands() -> Iterator[list[str]]:
    """Rows of the commands."""
    for command in LISTS["commands"]:
        usage = command["usage"].replace("[OPTIONS]", "").replace("<", "").replace(">", "")
        yield [f"`{' '.join(usage.split())}`", command["about"]]


def endpoints() -> Iterator[list[str]]:
    """Rows of what the server answers."""
    for endpoint in LISTS["endpoints"]:
        method, path = endpoint["name"].split()
        yield [method, f"`{path}`", endpoint["about"]]


def settings() -> Iterator[list[str]]:
    """Rows of all settings, by their headings."""
    for setting in sorted(LISTS["settings"], key=lambda setting: HEADINGS.index(setting["heading"])):
        default = shortened(setting["default"])
        yield [
            setting["heading"],
            f"`{setting['flag']}`",
            f"`{default}`" if default else "",
            "yes" if setting["may_change_in_a_resume"] else "",
            "yes" if setting["is_hyperparameter"] else "",
            setting["help"],
        ]


TABLES = {
    "readable": lambda: table(["format", "written by"], readable()),
    "writable": lambda: table(["file", "for", "opens with", "keeps"], writable()),
    "commands": lambda: table(["command", "what it does"], commands()),
    "datasets": lambda: table(
        ["`--dataset`", "what it shows"],
        ([f"`{dataset['name']}`", dataset["about"]] for dataset in LISTS["datasets"]),
    ),
    "forms": lambda: table(["form", "what it looks like"], ([form["name"], form["about"]] for form in LISTS["forms"])),
    "optimizers": lambda: table(["`--optimizer`", "what it is", "its settings and their defaults"], kinds("optimizer")),
    "schedules": lambda: table(["`--schedule`", "what it does", "its settings and their defaults"], kinds("schedule")),
    "metrics": lambda: table(
        ["key", 'an epoch\'s line, `"event": "epoch"`'],
        ([f"`{metric['name']}`", metric["about"]] for metric in LISTS["metrics"]),
    ),
    "endpoints": lambda: table(["method", "path", "what it is"], endpoints()),
    "settings": lambda: table(["", "flag", "default", "resume", "result", "what it is"], settings()),
}


def written(page: Path) -> tuple[str, str]:
    """A page as it is, and with its tables written anew."""
    text = page.read_text()
    return text, MARKED.sub(lambda found: found["begin"] + TABLES[found["name"]]() + found["end"], text)


def main() -> None:
    """Writes or checks the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, and fail if a table is not up to date")
    check = parser.parse_args().check
    for page in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("crates/*/README.md"))]:
        before, after = written(page)
        if before == after:
            continue
        if check:
            sys.exit(f"error: a table of {page.relative_to(ROOT)} is not up to date: run scripts/tables.py")
        page.write_text(after)


LISTS = lists()

if __name__ == "__main__":
    main()
