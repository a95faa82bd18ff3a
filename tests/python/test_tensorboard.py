"""TensorBoard's own readers find everything in the event file of a run, and nothing twice."""

import csv
import json
import re
import subprocess
from pathlib import Path

import pytest
from conftest import DATA, PROGRAM, tch_mnist
from safetensors.numpy import load_file
from tch_mnist_program import lists
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams import metadata

SLICE = ["--device", "cpu", "--threads", 1, "--limit-train", 1280, "--limit-test", 256, "--batch-size", 64, "-q"]


def train(out: Path, epochs: int) -> None:
    tch_mnist("train", "--data", DATA, "--out", out, *SLICE, "--epochs", epochs, "--report=false", "--lr", 0.02)


def read(out: Path) -> EventAccumulator:
    events = EventAccumulator(str(out), size_guidance={"scalars": 0, "histograms": 0, "images": 0, "tensors": 0})
    return events.Reload()


def lines(out: Path) -> list[dict]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == "epoch"]


def check(out: Path, epochs: int) -> EventAccumulator:
    """Asserts that the file holds every step and epoch once, in order, with the numbers of the run's other files."""
    events = read(out)
    losses = list(csv.DictReader((out / "losses.csv").open()))
    assert len(losses) == 20 * epochs
    for tag, column in [("step/loss", "loss"), ("step/lr", "lr")]:
        scalars = events.Scalars(tag)
        assert [scalar.step for scalar in scalars] == list(range(20 * epochs))
        assert [scalar.value for scalar in scalars] == pytest.approx([float(row[column]) for row in losses])
    times = [scalar.wall_time for scalar in events.Scalars("step/loss")]
    assert times == sorted(times)
    keys = [metric["name"].replace("PART", "test") for metric in lists()["metrics"]]
    for key in [key for key in keys if key not in ("epoch", "correct")]:
        scalars = events.Scalars(re.sub("^(train|test)_(loss|accuracy)$", r"\2/\1", key))
        assert [scalar.step for scalar in scalars] == list(range(epochs))
        assert [scalar.value for scalar in scalars] == pytest.approx([line[key] for line in lines(out)])
    for tag in events.Tags()["histograms"]:
        assert [histogram.step for histogram in events.Histograms(tag)] == list(range(epochs))
    return events


def test_everything_is_there_and_stays_so_when_a_run_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(out, 2)
    events = check(out, 2)

    weights = load_file(out / "model.safetensors")
    parameters = [key for key in weights if key.endswith((".weight", ".bias"))]
    assert len(parameters) == 20
    expected = {f"{kind}/{key}" for kind in ["weights", "gradients"] for key in parameters}
    assert set(events.Tags()["histograms"]) == expected
    for key in parameters:
        last = events.Histograms(f"weights/{key}")[-1].histogram_value
        assert last.num == weights[key].size == sum(last.bucket)
        assert (last.min, last.max) == pytest.approx((weights[key].min(), weights[key].max()))
        assert last.sum_squares == pytest.approx((weights[key].astype(float) ** 2).sum())
        gradient = events.Histograms(f"gradients/{key}")[-1].histogram_value
        assert gradient.num == weights[key].size
        assert gradient.max > gradient.min

    for tag in ["misclassified", "confusion"]:
        (image,) = events.Images(tag)
        assert image.step == 1
        assert image.encoded_image_string.startswith(b"\x89PNG")

    # A longer run: one file remains, and TensorBoard is told to drop the earlier one.
    earlier = {path.name for path in out.glob("events.out.tfevents.*")}
    tch_mnist("train", "--resume", out, "--epochs", 3, "-q")
    later = [path.name for path in out.glob("events.out.tfevents.*")]
    assert len(earlier) == len(later) == 1
    assert later[0] > earlier.pop()
    events = check(out, 3)
    assert [image.step for image in events.Images("misclassified")] == [1, 2]


def test_the_hparams_page_has_the_settings_and_how_the_run_ended(tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(out, 1)
    events = read(out)

    def content(tag: str) -> bytes:
        return events.SummaryMetadata(f"_hparams_/{tag}").plugin_data.content

    start = metadata.parse_session_start_info_plugin_data(content("session_start_info"))
    assert start.hparams["lr"].number_value == 0.02
    assert start.hparams["batch_size"].number_value == 64
    assert start.hparams["schedule"].string_value == "step"
    assert start.hparams["nesterov"].bool_value is False
    experiment = metadata.parse_experiment_plugin_data(content("experiment"))
    assert {info.name for info in experiment.hparam_infos} == set(start.hparams)
    metrics = [info.name.tag for info in experiment.metric_infos]
    assert "accuracy/test" in metrics
    assert set(metrics) <= set(events.Tags()["scalars"])
    end = metadata.parse_session_end_info_plugin_data(content("session_end_info"))
    assert end.status == 1
    assert end.end_time_secs >= start.start_time_secs


def test_a_run_that_diverges_is_a_failure(tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = [*SLICE, "--epochs", 1, "--lr", 1e30]
    command = [PROGRAM, "train", "--data", DATA, "--out", out, *options]
    assert subprocess.run([str(part) for part in command], capture_output=True).returncode == 1
    content = read(out).SummaryMetadata("_hparams_/session_end_info").plugin_data.content
    assert metadata.parse_session_end_info_plugin_data(content).status == 2


def test_what_a_killed_process_left_behind_its_checkpoint_is_dropped(tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(out, 1)
    checkpoint = (out / "checkpoint.safetensors").read_bytes()
    tch_mnist("train", "--resume", out, "--epochs", 3, "-q")
    # The checkpoint of the first epoch with the events of all three, the last of them cut off.
    (out / "checkpoint.safetensors").write_bytes(checkpoint)
    (path,) = out.glob("events.out.tfevents.*")
    path.write_bytes(path.read_bytes()[:-7])
    tch_mnist("train", "--resume", out, "--epochs", 2, "-q")
    check(out, 2)


def test_the_file_has_no_event_that_tensorboard_does_not_know(tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(out, 1)
    (path,) = out.glob("events.out.tfevents.*")
    events = list(EventFileLoader(str(path)).Load())
    assert events[0].file_version == "brain.Event:2"
    assert all(event.wall_time > 1.7e9 for event in events)
    assert all(event.WhichOneof("what") in ["file_version", "session_log", "summary"] for event in events)


def test_it_can_be_left_out(tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ["--epochs", 1, "--report=false", "--tensorboard=false"]
    tch_mnist("train", "--data", DATA, "--out", out, *SLICE, *options)
    assert not list(out.glob("events*"))
    assert not (out / "plots").exists()
    assert not (out / "report.html").exists()
