//! `tch-mnist backprop`: the numbers, the three gradients, the explanation, the files and the errors.

use assert_cmd::Command;
use serde_json::Value;
use std::path::Path;

const REFERENCE: &str = include_str!("../crates/backprop/tests/spreadsheet_lr1.csv");
const RATES: [f64; 6] = [0.1, 0.2, 0.5, 0.8, 1.0, 2.0];

fn backprop(args: &[&str]) -> assert_cmd::assert::Assert {
    Command::cargo_bin("tch-mnist").unwrap().arg("backprop").args(args).assert()
}

fn stdout(args: &[&str]) -> String {
    String::from_utf8(backprop(args).success().get_output().stdout.clone()).unwrap()
}

/// The header and the rows of a CSV file.
fn table(text: &str) -> (Vec<String>, Vec<Vec<f64>>) {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().unwrap().iter().map(String::from).collect();
    let number = |field: &str| field.parse::<f64>().unwrap();
    (header, reader.records().map(|row| row.unwrap().iter().map(number).collect()).collect())
}

fn close(a: f64, b: f64, relative: f64) -> bool {
    (a - b).abs() <= relative * a.abs().max(b.abs())
}

#[test]
fn the_table_at_learning_rate_1_is_the_spreadsheet() {
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().to_str().unwrap();
    backprop(&["--lr", "1", "--steps", "68", "--out", folder]).success();
    let text = std::fs::read_to_string(out.path().join("backprop.csv")).unwrap();
    let (header, rows) = table(&text);
    let (reference_header, reference) = table(REFERENCE);
    assert_eq!(header, reference_header);
    assert_eq!(rows.len(), 68);
    assert_eq!(reference.len(), 68);
    for (row, expected) in rows.iter().zip(&reference) {
        for ((name, value), expected) in header.iter().zip(row).zip(expected) {
            assert!(close(*value, *expected, 1e-12), "step {}, {name}: {value} is not {expected}", row[0]);
        }
    }
    assert_eq!(std::fs::read_to_string(out.path().join("backprop_lr1.csv")).unwrap(), text);
}

#[test]
fn the_three_gradients_agree_at_every_step_of_every_learning_rate() {
    let out = tempfile::tempdir().unwrap();
    let text = stdout(&["--log-format", "json", "--out", out.path().to_str().unwrap()]);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (done, rows) = lines.split_last().unwrap();

    assert_eq!(done["event"], "done");
    let largest = |pair: &str| done["largest_difference"][pair].as_f64().unwrap();
    assert!(largest("hand_autograd") < 1e-15, "{done}");
    for pair in ["hand_finite_difference", "autograd_finite_difference"] {
        // Finite differences are never exact: a 0 would mean that a gradient was compared with itself.
        assert!(largest(pair) > 0.0 && largest(pair) < 1e-9, "{done}");
    }

    assert_eq!(rows.len(), 600);
    for (rate, rows) in RATES.iter().zip(rows.chunks(100)) {
        let file = out.path().join(format!("backprop_lr{rate}.csv"));
        let (header, table) = table(&std::fs::read_to_string(file).unwrap());
        for (row, line) in table.iter().zip(rows) {
            assert_eq!(line["lr"].as_f64().unwrap(), *rate);
            for (name, value) in header.iter().zip(row) {
                // serde_json may read the last digit a little off.
                assert!(close(line[name].as_f64().unwrap(), *value, 1e-15), "lr {rate}, {name}");
            }
        }
    }
}

#[test]
fn every_learning_rate_descends_as_torch_does_in_python() {
    let script = r#"
import torch
for lr in (0.1, 0.2, 0.5, 0.8, 1.0, 2.0):
    w = torch.tensor([0.15, 0.2, 0.25, 0.3, 0.4, 0.45, 0.5, 0.55], dtype=torch.float64, requires_grad=True)
    i = torch.tensor([0.05, 0.1], dtype=torch.float64)
    t = torch.tensor([0.01, 0.99], dtype=torch.float64)
    optimizer = torch.optim.SGD([w], lr=lr)
    for step in range(100):
        before = w.tolist()
        a = torch.sigmoid(w[4:].view(2, 2) @ torch.sigmoid(w[:4].view(2, 2) @ i))
        loss = 0.5 * torch.nn.functional.mse_loss(a, t, reduction="sum")
        optimizer.zero_grad()
        loss.backward()
        print(*before, loss.item(), *w.grad.tolist())
        optimizer.step()
"#;
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    let output = std::process::Command::new(python).args(["-c", script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected = String::from_utf8(output.stdout).unwrap();

    let text = stdout(&["--log-format", "json"]);
    let mut names: Vec<String> = (1..=8).map(|k| format!("w{k}")).collect();
    names.push("E_total".to_string());
    names.extend((1..=8).map(|k| format!("dE_dw{k}")));
    assert_eq!(expected.lines().count(), 600);
    for (line, expected) in text.lines().zip(expected.lines()) {
        let row: Value = serde_json::from_str(line).unwrap();
        for (name, expected) in names.iter().zip(expected.split(' ')) {
            let (value, expected) = (row[name].as_f64().unwrap(), expected.parse::<f64>().unwrap());
            // A gradient near 0 is a difference of larger numbers: its rounding error is theirs.
            let absolute = (value - expected).abs() < 1e-15;
            assert!(absolute || close(value, expected, 1e-12), "{name}: {value} is not {expected} in {line}");
        }
    }
}

#[test]
fn a_student_can_check_the_explanation_with_a_calculator() {
    let text = stdout(&["--step", "41", "--lr", "2"]);
    let mut products = 0;
    for line in text.lines() {
        let parts: Vec<&str> = line.split(" = ").collect();
        let [_, _, numbers, result] = parts[..] else { continue };
        let factors = numbers.split(" · ").map(|factor| factor.trim().trim_matches(['(', ')']).parse::<f64>());
        let Ok(factors) = factors.collect::<Result<Vec<f64>, _>>() else { continue };
        // What is shown has six digits.
        let (product, result): (f64, f64) = (factors.iter().product(), result.parse().unwrap());
        assert!(close(product, result, 1e-5), "{line}");
        products += usize::from(factors.len() == 3);
    }
    assert_eq!(products, 12);
    for (k, step) in
        ["Which error", "The factors", "output layer", "ways back add up", "hidden sigmoid", "hidden layer"]
            .iter()
            .enumerate()
    {
        assert!(text.lines().any(|line| line.starts_with(&format!("{}. ", k + 1)) && line.contains(step)), "{step}");
    }
}

#[test]
fn a_step_is_explained_with_its_own_numbers() {
    let text = stdout(&["--lr", "0.5,1", "--step", "67"]);
    assert!(text.starts_with("Step 67 at learning rate 1\n"), "{text}");
    // Of the spreadsheet's last row: w1, w5 in the drawing, E_total in the forward pass, w8 after the update.
    let (_, reference) = table(REFERENCE);
    let after = reference[67][16] - reference[67][31];
    for part in ["w1 0.212292", "w5 -1.61925", "= 0.020307\n", &format!("= {after:.5}\n")] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn no_line_is_wider_than_a_terminal() {
    let awkward = [
        "--weights=-1.234567e-5,2.345678,1e10,-1e-10,0.000123456,-123.4567,0.3,1e-12",
        "--inputs=-0.000123456,1e-7",
        "--targets=-2,1",
        "--lr=0.000123456",
    ];
    for args in [&[][..], &awkward] {
        for line in stdout(args).lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }
    assert!(stdout(&awkward).contains("Note: t1 = -2 cannot be reached"));
}

#[test]
fn the_pictures_show_every_learning_rate_and_every_weight() {
    let out = tempfile::tempdir().unwrap();
    backprop(&["--out", out.path().to_str().unwrap()]).success();
    for (name, labels) in [
        ("e_total", &["E_total", "step", "0.1", "0.2", "0.5", "0.8", "1", "2"][..]),
        ("network", &["w1 = 0.15", "w8 = 0.55", "a_h1 = 0.506875", "E1 = 0.177893", "E_total = E1 + E2 = 0.24252"]),
    ] {
        let svg = std::fs::read_to_string(out.path().join(format!("{name}.svg"))).unwrap();
        for label in labels {
            assert!(svg.contains(&format!("\n{label}\n")), "{name}.svg lacks {label}");
        }
        let png = std::fs::read(out.path().join(format!("{name}.png"))).unwrap();
        assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
        assert_eq!(png[16..24], [2400u32.to_be_bytes(), 1350u32.to_be_bytes()].concat());
    }
    let svg = std::fs::read_to_string(out.path().join("e_total.svg")).unwrap();
    // A curve and a line in the legend each.
    let curves = svg.matches("<polyline").count();
    assert!(curves >= 2 * RATES.len(), "{curves} lines");
}

#[test]
fn nothing_is_written_without_out() {
    let folder = tempfile::tempdir().unwrap();
    Command::cargo_bin("tch-mnist").unwrap().arg("backprop").current_dir(&folder).assert().success();
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
}

/// One sentence on stderr, nothing on stdout, and the exit code.
#[track_caller]
fn fails(args: &[&str], code: i32, parts: &[&str]) {
    let assert = backprop(args).code(code);
    let output = assert.get_output();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(error.lines().count(), 1, "{error}");
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in {error}");
    }
    assert!(output.stdout.is_empty());
}

#[test]
fn a_wrong_learning_rate_is_one_sentence() {
    fails(&["--lr", "0"], 2, &["--lr 0", "above 0"]);
    fails(&["--lr", "0.1,-1"], 2, &["--lr -1", "above 0"]);
    fails(&["--lr", "nan"], 2, &["--lr", "'nan' is not a finite number"]);
    fails(&["--lr", "1,inf"], 2, &["--lr", "'inf' is not a finite number"]);
    fails(&["--lr", "1e999"], 2, &["--lr", "'1e999' is not a finite number"]);
    fails(&["--lr", "1,1.0"], 2, &["--lr lists 1 twice"]);
}

#[test]
fn a_learning_rate_that_diverges_is_one_sentence_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    fails(&["--lr", "1,1e300", "--out", out.to_str().unwrap()], 1, &["--lr 1e300 diverges", "smaller --lr"]);
    assert!(!out.exists());
    // Inputs of 1e10 make the first gradient larger than what 1e308 can be multiplied with.
    fails(&["--lr", "1e308", "--inputs", "1e10,0", "--weights", "0,0,0,0,1,1,1,1"], 1, &["--lr 1e308 diverges"]);
}

#[test]
fn a_wrong_list_is_one_sentence() {
    fails(&["--lr", "0.1,fast"], 2, &["--lr", "'fast' is not a number"]);
    fails(&["--lr", ""], 2, &["--lr", "'' is not a number"]);
    fails(&["--lr", "0.1,,1"], 2, &["--lr", "'' is not a number"]);
    fails(&["--weights", "1,2,3"], 2, &["--weights takes 8 numbers", "got 3"]);
    fails(&["--weights", "1,2,3,4,5,6,7,8,9"], 2, &["--weights takes 8 numbers", "got 9"]);
    fails(&["--weights", "1,2,3,4,5,6,7,x"], 2, &["--weights", "'x' is not a number"]);
    fails(&["--inputs", "1"], 2, &["--inputs takes 2 numbers", "got 1"]);
    fails(&["--targets", "0.1,0.2,0.3"], 2, &["--targets takes 2 numbers", "got 3"]);
}

#[test]
fn a_wrong_step_or_folder_is_one_sentence() {
    fails(&["--steps", "0"], 2, &["--steps"]);
    fails(&["--steps", "many"], 2, &["--steps"]);
    fails(&["--steps", "10", "--step", "10"], 2, &["--step 10", "last step is 9"]);
    fails(&["--inputs", "1e300,0", "--weights", "1e300,1,1,1,1,1,1,1"], 1, &["overflows", "--inputs"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    fails(&["--out", path], 1, &["--out", path]);
}
