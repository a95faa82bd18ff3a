"""Every command of the README does what it says, on a slice of the data."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import PROGRAM, ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.S)

# Stands for target/release/tch-mnist, and trains on a slice.
SLICED = f"""#!/usr/bin/env bash
case " $* " in
    *" --resume "* | *" --limit-train "*) exec {PROGRAM} "$@" ;;
    " train "*) exec {PROGRAM} "${{@/#5000/128}}" --limit-train 640 --limit-test 256 ;;
    *) exec {PROGRAM} "$@" ;;
esac
"""

# Stands for cargo: `cargo run --release -- ...`.
CARGO = """#!/usr/bin/env bash
[ "$1 $2 $3" = "run --release --" ] || { echo "unexpected: cargo $*" >&2; exit 9; }
exec target/release/tch-mnist "${@:4}"
"""


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def write_space(path: Path) -> None:
    """The README's space file, its trials on a slice."""
    text = (ROOT / "docs/space.toml").read_text()
    for key, value in [("limit_train", 640), ("validation", 128), ("epochs", 1)]:
        text, changed = re.subn(rf"^{key} = \d+", f"{key} = {value}", text, flags=re.M)
        assert changed == 1
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def test_the_commands_run_one_after_the_other(tmp_path: Path) -> None:
    for name in ["scripts", ".venv", "data", "docs/seven.jpg"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(ROOT / name)
    write_program(tmp_path / "target/release/tch-mnist", SLICED)
    write_program(tmp_path / "bin/cargo", CARGO)
    write_space(tmp_path / "docs/space.toml")
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    # The first block is scripts/train and scripts/test; the one here runs within the other.
    assert "scripts/train" in BLOCKS[0]
    blocks = [block for block in BLOCKS[1:] if "jq" not in block or shutil.which("jq")]
    if len(blocks) < len(BLOCKS) - 1:
        print("skipped the loop that ends in jq: there is no jq here")
    assert len(blocks) >= 4
    for block in blocks:
        block = re.sub(r"--trials \d+", "--trials 2 --report-seeds 1", block)
        command = ["bash", "-euo", "pipefail", "-c", block]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        if "compare.py" in block:
            assert "0 of 38 tensors differ, 0 of " in done.stdout


@pytest.mark.parametrize("command", re.findall(r"^\| `tch-mnist ([a-z]+)", README, re.M))
def test_the_table_names_commands_that_exist(command: str) -> None:
    done = subprocess.run([PROGRAM, command, "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "Usage: tch-mnist" in done.stdout


def test_the_run_in_the_readme_is_one_of_the_original_settings() -> None:
    epochs = re.findall(r"^EPOCH: (\d+)$", README, re.M)
    assert [int(epoch) for epoch in epochs] == list(range(15))
    correct = [int(count) for count in re.findall(r"Accuracy: (\d+)/10000", README)]
    assert len(correct) == 15
    assert correct[-1] >= 9930
