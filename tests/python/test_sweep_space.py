"""What a space file may say beyond plain ranges: conditional settings, several objectives; and settings tried first."""

from pathlib import Path

import optuna
import pytest
from conftest import PROGRAM
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from sweeping import known, space, study
from sweeping.space import UsageError

OPTIMIZERS = """
betas = { type = "choice", values = ["0.9,0.999", "0.9,0.99"], when = { optimizer = ["adam", "adamw"] } }
amsgrad = { type = "choice", values = [true, false], when = { optimizer = "adam", betas = "0.9,0.99" } }
optimizer = { type = "choice", values = ["sgd", "adam", "adamw"] }
momentum = { type = "float", low = 0.5, high = 0.9, points = 2, when = { optimizer = "sgd", dataset = "mnist" } }
"""
SCHEDULES = """
schedule = { type = "choice", values = ["step", "cosine"] }
step_size = { type = "int", low = 1, high = 3, when = { schedule = "step" } }
"""


def read(folder: Path, ranges: str, head: str = "") -> space.Space:
    path = folder / "quick.toml"
    path.write_text(f"validation = 128\n{head}\n[fixed]\ndataset = 'mnist'\n[space]\n{ranges}")
    return space.read(path)


def allowed(settings: dict) -> bool:
    """Whether OPTIMIZERS draws just these settings together."""
    expected = {
        "betas": settings["optimizer"] in ("adam", "adamw"),
        "amsgrad": settings["optimizer"] == "adam" and settings.get("betas") == "0.9,0.99",
        "momentum": settings["optimizer"] == "sgd",
    }
    return {name: name in settings for name in expected} == expected


def test_a_setting_with_a_condition_is_drawn_only_when_it_holds(tmp_path: Path) -> None:
    searched = read(tmp_path, OPTIMIZERS)
    assert searched.conditional and not read(tmp_path, "lr = { type = 'float', low = 1, high = 2 }").conditional
    opened = optuna.create_study(sampler=study.make_sampler("tpe", searched.conditional), direction="maximize")
    for _ in range(60):
        trial = opened.ask()
        searched.draw(trial)
        opened.tell(trial, trial.number)
    assert all(allowed(trial.params) for trial in opened.trials)
    assert {len(trial.params) for trial in opened.trials} == {2, 3}
    assert any("amsgrad" in trial.params for trial in opened.trials)


def test_a_grid_has_each_combination_that_can_be_drawn_once(tmp_path: Path) -> None:
    points = read(tmp_path, OPTIMIZERS).grid()
    assert all(allowed(point) for point in points)
    # Two momenta; adam with one pair of betas, and with the other one twice; adamw with two pairs.
    assert len({str(sorted(point.items())) for point in points}) == len(points) == 2 + (1 + 2) + 2


def test_the_ends_of_conditional_ranges_are_checked_with_every_value_that_permits_them(tmp_path: Path) -> None:
    ends = list(read(tmp_path, OPTIMIZERS).ends())
    assert all(allowed(point) for point in ends)
    assert {point["optimizer"] for point in ends} == {"sgd", "adam", "adamw"}
    assert {point["optimizer"] for point in ends if "betas" in point} == {"adam", "adamw"}
    for name, values in [("betas", {"0.9,0.999", "0.9,0.99"}), ("amsgrad", {True, False}), ("momentum", {0.5, 0.9})]:
        assert {point[name] for point in ends if name in point} == values

    # The program sees them: only one of the ends is wrong, and only with one schedule.
    wrong = read(tmp_path, SCHEDULES.replace("low = 1", "low = 0"))
    with pytest.raises(UsageError, match="does not take the settings of quick.toml: step_size takes"):
        space.check(wrong, PROGRAM)


def test_an_error_names_the_keys_of_the_file() -> None:
    sentence = "--net-values w9: --step-size and --step-size-2 go with --schedule step, not with --config"
    expected = "net_values w9: step_size and --step-size-2 go with schedule step, not with --config"
    assert space.with_keys(sentence, ["net_values.w1", "step_size", "schedule"]) == expected


@pytest.mark.parametrize(
    ("ranges", "reason"),
    [
        ("a = { type = 'choice', values = [1], when = 3 }", "a: when takes settings and their values"),
        ("a = { type = 'choice', values = [1], when = {} }", "a: when takes settings and their values"),
        ("a = { type = 'choice', values = [1], when = { b = [] } }", "a: when takes a value or a list of values of b"),
        ("a = { type = 'choice', values = [1], when = { b = 1 } }", "a: when names b, which is neither in [space] nor"),
        (
            "a = { type = 'choice', values = [1], when = { dataset = 'kmnist' } }",
            "a: when asks for dataset = kmnist, but dataset is only ever one of mnist",
        ),
        (
            "a = { type = 'choice', values = [1], when = { b = 4 } }\nb = { type = 'int', low = 1, high = 3 }",
            "a: when asks for b = 4, but b is only ever one of 1, 2, 3",
        ),
        (
            "a = { type = 'choice', values = [1], when = { b = 1 } }\nb = { type = 'choice', values = [true] }",
            "a: when asks for b = 1, but b is only ever one of true",
        ),
        (
            "a = { type = 'choice', values = [1], when = { b = 1.5 } }\nb = { type = 'float', low = 1, high = 3 }",
            "a: when names b, but takes only a choice, an int or a setting in [fixed]",
        ),
        (
            "a = { type = 'choice', values = [1], when = { b = 1 } }\n"
            "b = { type = 'choice', values = [1], when = { a = 1 } }",
            "a: when goes in a circle: a needs b needs a",
        ),
        (
            "a = { type = 'choice', values = [1, 2] }\nb = { type = 'choice', values = [1], when = { a = 1 } }\n"
            "c = { type = 'choice', values = [1], when = { a = 2, b = 1 } }",
            "c: when can never hold: b needs another value of a",
        ),
    ],
)
def test_a_condition_with_a_mistake_is_refused(tmp_path: Path, ranges: str, reason: str) -> None:
    with pytest.raises(UsageError) as error:
        read(tmp_path, ranges)
    assert str(error.value).startswith(f"{tmp_path / 'quick.toml'}: [space] {reason}")


@pytest.mark.parametrize(
    ("objectives", "reason"),
    [
        ("'accuracy'", "objectives takes a list of accuracy, seconds, parameters, not 'accuracy'"),
        ("['accuracy', 'size']", "objectives takes a list of accuracy, seconds, parameters, not ['accuracy', 'size']"),
        ("[['accuracy']]", "objectives takes a list of"),
        ("[]", "objectives takes accuracy first"),
        ("['seconds']", "objectives takes accuracy first"),
        ("['accuracy', 'accuracy']", "objectives takes accuracy first and each other one at most once"),
    ],
)
def test_objectives_with_a_mistake_are_refused(tmp_path: Path, objectives: str, reason: str) -> None:
    with pytest.raises(UsageError) as error:
        read(tmp_path, SCHEDULES, f"objectives = {objectives}")
    assert str(error.value).startswith(f"{tmp_path / 'quick.toml'}: {reason}")


def test_known_settings_are_what_a_run_with_that_config_would_have(tmp_path: Path) -> None:
    searched = read(
        tmp_path,
        SCHEDULES
        + "lr = { type = 'log-float', low = 0.001, high = 1 }\nmomentum = { type = 'choice', values = [0.5, 0.9] }",
    )
    file = tmp_path / "best.toml"
    # [fixed] has the dataset; the rest of the file does not matter.
    file.write_text("schedule = 'step'\nstep_size = 2\nlr = 1\nepochs = 99\ndataset = 'kmnist'\n")
    expected = {"schedule": "step", "step_size": 2, "lr": 1.0, "momentum": 0.9}
    assert known.read(file, searched, PROGRAM) == expected
    file.write_text("schedule = 'cosine'\nepochs = 99\n")
    assert known.read(file, searched, PROGRAM) == {"schedule": "cosine", "lr": 0.01, "momentum": 0.9}

    opened = optuna.create_study()
    for _ in range(2):
        opened.enqueue_trial(expected, skip_if_exists=True)
        trial = opened.ask()
        searched.draw(trial)
    assert [(trial.params == expected, "fixed_params" in trial.system_attrs) for trial in opened.trials] == [
        (True, True),
        (False, False),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("schedule = 'constant'", "schedule is constant, but [space] of quick.toml draws one of step, cosine"),
        ("step_size = 7", "step_size is 7, but [space] of quick.toml draws 1 to 3"),
        ("shedule = 'step'", "shedule is not a setting"),
        ("schedule", "--config"),
        (None, "is not a file"),
    ],
)
def test_known_settings_outside_of_the_space_are_refused(tmp_path: Path, text: str | None, reason: str) -> None:
    searched = read(tmp_path, SCHEDULES)
    file = tmp_path / "best.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError) as error:
        known.read(file, searched, PROGRAM)
    assert f"--enqueue {file}" in str(error.value) and reason in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("distribution", "value", "expected"),
    [
        (CategoricalDistribution([32, 64]), 65, None),
        (CategoricalDistribution([1, 2]), True, None),
        (CategoricalDistribution(["0.9,0.999"]), [0.9, 0.999], "0.9,0.999"),
        (FloatDistribution(0.0, 1.0), 1, 1.0),
        (FloatDistribution(0.0, 1.0), "a", None),
        (FloatDistribution(0.1, 0.7, step=0.2), 0.5, 0.5),
        (FloatDistribution(0.1, 0.7, step=0.2), 0.6, None),
        (IntDistribution(2, 8, step=3), 6, None),
        (IntDistribution(0, 3), True, None),
        (IntDistribution(0, 3), 1.5, None),
    ],
)
def test_what_is_inside_a_range(distribution: object, value: object, expected: object) -> None:
    found = known.inside(distribution, value)
    assert found == expected and type(found) is type(expected)
