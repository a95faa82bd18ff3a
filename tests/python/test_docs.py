"""Every command in the README and in docs/ does what it says, on a slice of the data."""

import os
import re
import subprocess
from pathlib import Path

import other_forms
import pytest
from common import PROGRAM, ROOT

README = (ROOT / "README.md").read_text()
PAGES = {
    page.relative_to(ROOT).as_posix(): re.findall(r"^ *```sh\n(.*?)```", page.read_text(), re.S | re.M)
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
}

# Stands for target/release/tch-mnist, and trains on a slice.
SLICED = f"""#!/usr/bin/env bash
case " $* " in
    *" --resume auto "*) exec {PROGRAM} "$@" --limit-train 640 --limit-test 256 ;;
    *" --resume "* | *" --limit-train "*) exec {PROGRAM} "$@" ;;
    " train "*) exec {PROGRAM} "${{@/#5000/128}}" --limit-train 640 --limit-test 256 ;;
    *) exec {PROGRAM} "$@" ;;
esac
"""

# Stands for cargo: `cargo run --release -- ...` runs the program, the example is built already, the rest is for CI.
CARGO = f"""#!/usr/bin/env bash
case "$*" in
    "run --release --example era_s6 -- "*) exec {PROGRAM.parent}/examples/era_s6 "${{@:6}}" ;;
    "run --release -- "*) exec target/release/tch-mnist "${{@:4}}" ;;
    "test --release"* | "test -p "* | "fmt"* | "clippy"* | "doc"*) echo "cargo $*: not run here" ;;
    *) echo "unexpected: cargo $*" >&2; exit 9 ;;
esac
"""


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def write_space(path: Path) -> None:
    """The space file of docs/, its trials on a slice."""
    text = (ROOT / "docs/space.toml").read_text()
    for key, value in [("limit_train", 640), ("validation", 128), ("epochs", 1)]:
        text, changed = re.subn(rf"^{key} = \d+", f"{key} = {value}", text, flags=re.M)
        assert changed == 1
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def write_kaggle(folder: Path) -> None:
    """Slices of the files of Kaggle's competition."""
    folder.mkdir()
    other_forms.write_csv(folder / "train.csv", *other_forms.arrays("train"))
    other_forms.write_csv(folder / "test.csv", other_forms.arrays("t10k")[0], None)


@pytest.mark.parametrize("page", [page for page, blocks in PAGES.items() if blocks])
def test_the_commands_of_a_page_run_one_after_the_other(tmp_path: Path, page: str) -> None:
    for name in ["scripts", ".venv", "data", "docs/seven.jpg", "docs/small_net.txt", "nets", "tests", "pyproject.toml"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(ROOT / name)
    write_program(tmp_path / "target/release/tch-mnist", SLICED)
    write_program(tmp_path / "bin/cargo", CARGO)
    write_space(tmp_path / "docs/space.toml")
    write_kaggle(tmp_path / "kaggle")
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    for block in PAGES[page]:
        if "scripts/train" in block or "scripts/test" in block:
            continue  # This test runs within the latter.
        block = re.sub(r"--trials \d+", "--trials 2 --report-seeds 1", block)
        # The suite runs them anyway.
        block = block.replace("-m pytest ", "-m pytest --collect-only ")
        command = ["bash", "-euo", "pipefail", "-c", block]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        if "compare.py" in block:
            assert "0 of 38 tensors differ, 0 of " in done.stdout


def test_pages_link_to_files_that_exist() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / page).read_text()):
            assert (ROOT / page).parent.joinpath(target).exists(), f"{page} links to {target}"


def test_the_table_names_every_command() -> None:
    text = subprocess.run([PROGRAM, "--help"], capture_output=True, text=True, check=True).stdout
    listed = re.findall(r"^  ([a-z-]+)  ", text.split("Commands:")[1].split("Options:")[0], re.M)
    assert set(listed) - {"help"} == set(re.findall(r"^\| `tch-mnist ([a-z-]+)", README, re.M))


def test_the_whole_log_is_one_of_the_original_settings() -> None:
    log = (ROOT / "docs/training.md").read_text()
    epochs = re.findall(r"^EPOCH: (\d+)$", log, re.M)
    assert [int(epoch) for epoch in epochs] == list(range(15))
    correct = [int(count) for count in re.findall(r"Accuracy: (\d+)/10000", log)]
    assert len(correct) == 15
    assert correct[-1] >= 9930
