"""scripts/bench.py measures what it says, on rounds of a few steps."""

import argparse
import json
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import ablate
import bench as scripts_bench
import idx
import mnist
import pytest
from conftest import DATA, ROOT, call, json_lines, script, tch_mnist
from peers import PEERS


def test_contenders_take_turns(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    sizes = ["--rounds", 2, "--steps", 2, "--batch-size", 128, "--threads", 1]
    only = ["--only", "eager", "fused"]
    printed = script("bench.py", *sizes, *only, "--what", "steps", "evaluate", "start-up", "--out", out)
    assert printed.count("| PyTorch eager |") == 3
    assert printed.count("| tch-mnist --kernels fused |") == 3
    results = {result["what"]: result for result in json.loads(out.read_text())["results"]}
    assert list(results) == ["steps", "evaluate", "start-up"]
    for what, result in results.items():
        names = [row["name"] for row in result["rows"]]
        assert names == (["import", "eager", "fused"] if what == "start-up" else only[1:])
        for row in result["rows"]:
            assert len(row["seconds"]) == 2
            assert min(row["seconds"]) > 0
            # libtorch alone takes more; the unit is bytes.
            assert what == "start-up" or 100e6 < row["peak_memory"] < 10e9
    assert 0 <= results["steps"]["others"] <= results["steps"]["others_most"] <= 1


def test_steps_beside_a_busy_process_are_measured_with_and_without_it(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    sizes = ["--rounds", 2, "--steps", 2, "--batch-size", 32, "--threads", 1, "--what", "busy"]
    printed = script("bench.py", *sizes, "--only", "eager", "fused", "--out", out)
    (result,) = json.loads(out.read_text())["results"]
    assert [row["name"] for row in result["rows"]] == ["eager", "fused"]
    for row in result["rows"]:
        slowdowns = [busy / quiet for busy, quiet in zip(row["seconds"], row["quiet"], strict=True)]
        assert len(slowdowns) == 2
        assert f" {statistics.median(slowdowns):.2f} |\n" in printed
    assert printed.splitlines()[-1].endswith(f"busy at batch 32: {result['rows'][1]['times']:.2f}")


def test_a_load_is_busy_only_while_a_round_is_measured() -> None:
    with scripts_bench.Load() as load:

        def used() -> int:
            return scripts_bench.Others.own(load.process.pid)

        def stopped() -> bool:
            return Path(f"/proc/{load.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"

        while not stopped():
            time.sleep(0.01)
        before = used()
        with load.busy():
            while used() == before:
                time.sleep(0.01)
        while not stopped():
            time.sleep(0.01)
    assert load.process.returncode == -signal.SIGKILL


def bench(*args: object) -> subprocess.CompletedProcess:
    """Runs it, whatever its exit code."""
    command = [sys.executable, ROOT / "scripts/bench.py", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True)


def test_wrong_flags_are_usage_errors() -> None:
    for flags, word in [
        (["--rounds", 0], "--rounds"),
        (["--batch-size", 128, 0], "--batch-size"),
        (["--device", "cuda", "--peers", sys.executable], "--peers measure a CPU"),
    ]:
        done = bench(*flags)
        assert done.returncode == 2
        assert word in done.stderr


def test_other_instruction_sets_are_contenders_at_every_batch_size(tmp_path: Path) -> None:
    available = json.loads(tch_mnist("doctor", "--log-format", "json"))["cpu"]["instruction_sets"]
    out = tmp_path / "bench.json"
    sizes = ["--what", "steps", "--rounds", 1, "--steps", 2, "--batch-size", 64, 32, "--threads", 1]
    printed = script("bench.py", *sizes, "--only", "eager", "fused", "--instruction-set", "--out", out)
    results = json.loads(out.read_text())["results"]
    assert [result["batch_size"] for result in results] == [64, 32]
    for result in results:
        assert [row["name"] for row in result["rows"]] == ["eager", "fused", *(f"fused/{s}" for s in available[1:])]
        eager, *others = (row["seconds"][0] for row in result["rows"])
        assert [row["times"] for row in result["rows"]] == [1, *(eager / seconds for seconds in others)]
    assert len(available) == 1 or printed.count("| tch-mnist --kernels fused --instruction-set portable |") == 2
    times = [f"steps at batch {result['batch_size']}: {result['rows'][1]['times']:.2f}" for result in results]
    last = printed.splitlines()[-1]
    assert last == f"tch-mnist --kernels fused, times PyTorch eager: {', '.join(times)}"


def python_with(folder: Path, *names: str) -> Path:
    """A Python that can import these of the peers as this one can, and not the others."""
    folder.mkdir()
    for name in set(PEERS) - set(names):
        (folder / f"{name}.py").write_text("raise ImportError\n")
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={folder} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return python


def test_a_contender_without_a_measure_is_left_out_of_it(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    sizes = ["--rounds", 1, "--steps", 2, "--threads", 1, "--what", "epoch", "steps"]
    done = bench(*sizes, "--only", "channels-last", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "epoch: left out, none of channels-last has it\n" in done.stderr
    assert [result["what"] for result in json.loads(out.read_text())["results"]] == ["steps"]
    refused = bench("--only", "cuda-graph", "--what", "steps")
    assert refused.returncode == 2
    assert "--only cuda-graph: on this device there are eager, channels-last" in refused.stderr


def test_peers_that_a_python_has_are_measured(tmp_path: Path) -> None:
    # The tests have ONNX Runtime. JAX and OpenVINO are measured by hand: this shows only that they are left out.
    python, out = python_with(tmp_path / "bin", "onnxruntime"), tmp_path / "bench.json"
    sizes = ["--rounds", 2, "--steps", 2, "--threads", 1, "--what", "steps", "evaluate"]
    done = bench(*sizes, "--only", "fused", "--peers", python, "--out", out)
    assert done.returncode == 0, done.stderr
    assert f"left out, because {python} cannot import them: jax, openvino\n" in done.stderr
    steps, evaluate = json.loads(out.read_text())["results"]
    assert [row["name"] for row in steps["rows"]] == ["fused"]
    assert [row["name"] for row in evaluate["rows"]] == ["fused", "onnxruntime"]
    assert min(evaluate["rows"][1]["seconds"]) > 0
    assert done.stdout.count("| ONNX Runtime |") == 1


def test_a_peer_evaluates_the_net_of_the_program(trained: Path) -> None:
    line = [sys.executable, ROOT / "scripts/peers.py", "--way", "onnxruntime", "--what", "evaluate"]
    ready, done = json_lines(
        subprocess.run(
            [*line, "--weights", trained, "--data", DATA], input="\n", capture_output=True, text=True, check=True
        ).stdout
    )
    printed = tch_mnist("evaluate", "--weights", trained / "model.onnx", "--data", DATA)
    assert f"Average loss: {ready['loss']:.4f}, Accuracy: {ready['correct']}/10000" in printed
    assert done["seconds"] > 0


def test_a_python_without_peers_is_an_error(tmp_path: Path) -> None:
    python = python_with(tmp_path / "bin")
    for peers, sentence in [
        (python, f"error: --peers {python} can import none of jax, onnxruntime, openvino: install one with its pip\n"),
        (tmp_path / "none", f"error: --peers {tmp_path / 'none'} cannot be run: No such file or directory\n"),
    ]:
        done = bench("--peers", peers)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", sentence)


def test_pixels_are_the_same_with_and_without_pytorch() -> None:
    images, labels = idx.read_split(DATA, "mnist", train=False)
    tensors, targets = mnist.load_split(DATA, "mnist", train=False)
    assert (idx.normalise(images) == mnist.normalise(tensors).numpy()).all()
    assert (labels == targets.numpy()).all()


def test_time_to_accuracy_trains_whole_recipes(tmp_path: Path) -> None:
    out = tmp_path / "runs.json"
    sizes = ["--recipes", "speed", "original", "--seeds", 2, "--limit-train", 256, "--threads", 1]
    printed = script("bench.py", "time-to-accuracy", *sizes, "--out", out)
    runs = json.loads(out.read_text())["runs"]
    assert {name: len(rows) for name, rows in runs.items()} == {"speed": 2, "original": 2, "original in PyTorch": 1}
    for name, rows in runs.items():
        assert f"| {name} | {rows[0]['epochs']} | {len(rows)} |" in printed
        assert [row["seed"] for row in rows] == [1, 2][: len(rows)]
        for row in rows:
            assert 0 < row["seconds"] < row["seconds_with_start_up"]
            assert 5 < row["test_accuracy"] < 100
    assert runs["original"][0]["epochs"] == runs["original in PyTorch"][0]["epochs"] == 15


def test_ablations_are_measured_once(tmp_path: Path) -> None:
    variants, out = tmp_path / "variants.toml", tmp_path / "ablations.json"
    variants.write_text('[best."the recipe"]\nepochs = 1\n[best."no average"]\nepochs = 1\nema_decay = 0\n')
    sizes = ["--seeds", 1, 2, "--validation", 200, "--limit-train", 840, "--jobs", 2]
    printed = script("ablate.py", variants, *sizes, "--out", out)
    assert printed.count("| 2 |") == 2
    known = json.loads(out.read_text())
    assert len(known) == 4
    assert all("validation = 200\n" in config and run["status"] == "done" for config, run in known.items())
    # The same again trains nothing; another setting is another run.
    assert script("ablate.py", variants, *sizes, "--out", out) == printed
    assert json.loads(out.read_text()) == known
    variants.write_text(variants.read_text() + '[best."no weight decay"]\nepochs = 1\nweight_decay = 0\n')
    script("ablate.py", variants, *sizes, "--out", out)
    assert len(json.loads(out.read_text())) == 6


def test_a_variant_that_the_program_refuses_ends_it(tmp_path: Path) -> None:
    variants = tmp_path / "variants.toml"
    variants.write_text('[best."too much"]\nrotate = 1000\n')
    command = [sys.executable, ROOT / "scripts/ablate.py", variants, "--out", tmp_path / "out.json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "--rotate takes degrees from 0 to 180" in done.stderr
    assert "{'rotate': 1000} were refused" in done.stderr
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, " cannot be read: No such file or directory; docs/ablations.toml is an example"),
        ("best = \n", " is not TOML: Invalid value (at line 1, column 8)"),
        ("[speed.a]", " has no table [best.NAME]"),
        ("[best]\nlr = 1", ": best.lr is not a table: write [best.NAME] above the settings of a variant"),
    ],
)
def test_variants_with_a_mistake_are_refused(tmp_path: Path, text: str | None, sentence: str) -> None:
    variants = tmp_path / "variants.toml"
    if text is not None:
        variants.write_text(text)
    assert call(ablate.main, variants, "--out", tmp_path / "out.json")[2] == f"error: {variants}{sentence}"


def test_variants_are_compared_with_the_recipe_seed_by_seed() -> None:
    def run(accuracy: float, loss: float) -> dict:
        measured = {"validation_accuracy": accuracy, "validation_loss": loss}
        return {**measured, "tta_validation_accuracy": accuracy}

    recipe, variant = [run(99, 0.02), run(98, 0.03)], [run(98.5, 0.021), run(97.7, 0.033)]
    lines = ablate.table({"recipe": recipe, "variant": variant}).splitlines()
    assert lines[2] == "| recipe | 2 | 98.500 ± 0.500 | - | - | 98.500 |"
    assert lines[3] == "| variant | 2 | 98.100 ± 0.400 | -0.400 ± 0.100 | +0.0020 ± 0.0010 | 98.100 |"


def test_a_contender_that_fails_at_its_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["import sys", "print(sys.argv[1], flush=True)", "sys.stdin.read()", "print('a last word')", "sys.exit(3)"]
    line = [sys.executable, "-c", "\n".join(lines), '{"event": "ready"}']
    monkeypatch.setattr(scripts_bench, "command", lambda *_: line)
    contender = scripts_bench.Contender.start("eager", "steps", argparse.Namespace())
    with pytest.raises(SystemExit) as error:
        contender.stop()
    assert error.value.code == "error: PyTorch eager ended with the exit code 3 (see above)"
