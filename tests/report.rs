//! The plots and the page of a run: made again, compared, and for any weights.

mod common;

use common::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const PICTURES: [&str; 8] =
    ["confusion", "error", "loss", "loss_by_step", "lr", "misclassified", "training_images", "unfamiliar"];

/// All files of the plots and the page, by name.
fn looked_at(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let plots = names(&out.join("plots")).into_iter().map(|name| format!("plots/{name}"));
    plots.chain(["report.html".into()]).map(|name| (name.clone(), fs::read(out.join(&name)).unwrap())).collect()
}

fn page(out: &Path) -> String {
    fs::read_to_string(out.join("report.html")).unwrap()
}

/// Asserts that a browser that opens `page` fetches nothing and runs nothing.
fn assert_offline(page: &str) {
    let without_names = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    for fetches in ["http://", "https://", "<script", "<link", "<iframe", "@import", "url(", "onload", "onerror"] {
        assert!(!without_names.contains(fetches), "{fetches}");
    }
    for image in without_names.split(" src=\"").skip(1) {
        assert!(image.starts_with("data:image/png;base64,"), "{}", &image[..40]);
    }
    // Links are followed by a reader, and lead to the reports of runs.
    for link in without_names.split("href=\"").skip(1) {
        assert!(link.split('"').next().unwrap().ends_with("/report.html"), "{}", &link[..40]);
    }
    assert!(page.contains("Content-Security-Policy\" content=\"default-src 'none'"));
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
}

#[test]
fn a_run_is_looked_at_and_can_be_again() {
    let (_folder, out) = out();
    let trained = train(&out, &["--report"]).assert().success().get_output().clone();
    let said = String::from_utf8(trained.stderr).unwrap();
    // After the last test, what takes a while is said before it begins.
    let after = said.split(" INFO epoch 1: ").nth(1).unwrap();
    assert!(after.contains("\n INFO writing the report\n"), "{said}");
    let first = looked_at(&out);
    let expected = PICTURES.iter().flat_map(|name| [format!("plots/{name}.png"), format!("plots/{name}.svg")]);
    assert_eq!(first.keys().cloned().collect::<Vec<_>>(), expected.chain(["report.html".into()]).collect::<Vec<_>>());
    for (name, bytes) in &first {
        if name.ends_with(".png") {
            let image = image::load_from_memory(bytes).unwrap().into_rgb8();
            assert!(image.width() >= 900, "{name} is {} wide", image.width());
            let ink = image.pixels().filter(|pixel| pixel.0[0] < 128).count();
            assert!(ink > 1000, "{name} has {ink} dark pixels");
        }
    }

    let page = page(&out);
    assert_offline(&page);
    let last = &metrics(&out)[2];
    let wrong = 500 - last["correct"].as_i64().unwrap();
    let environment: serde_json::Value =
        serde_json::from_slice(&fs::read(out.join("environment.json")).unwrap()).unwrap();
    let checksum = environment["data"]["train-images-idx3-ubyte"].as_str().unwrap();
    for part in [
        &format!("{:.2} %</b><span>test accuracy", last["test_accuracy"].as_f64().unwrap()),
        &format!("<b>{wrong}</b><span>of 500 test images wrong"),
        "<th>limit-train</th><td class=\"long\">1280</td>",
        "<b>11,392</b><span>parameters",
        "images per second in training",
        "11,392 parameters; 3,291,692 multiply-adds per image",
        "<td>convblock2.0 Conv2d</td><td class=\"n\">32x24x24</td><td class=\"n\">4,608</td><td class=\"n\">5</td>",
        "<th class=\"n\">precision</th><th class=\"n\">recall</th><th class=\"n\">F1</th>",
        &format!("The {wrong} misclassified images"),
        "Images are numbered as in t10k-images-idx3-ubyte, from 0.",
        "predict marks an image whose distance is above ",
        "@media (prefers-color-scheme: dark)",
        "<th>libtorch</th><td class=\"long\">2.11.0</td>",
        checksum,
        "torch.jit.load(&quot;model.pt&quot;)",
        "The first 128 training images",
    ] {
        // The page writes quotes as they are or escaped, which is the same to a reader.
        assert!(page.contains(part) || page.replace('"', "&quot;").contains(part), "{part}");
    }

    assert_settings_in_force(&page);
    assert!(page.matches("<td class=\"n\">").count() > 4 * wrong as usize);

    fs::remove_dir_all(out.join("plots")).unwrap();
    fs::remove_file(out.join("report.html")).unwrap();
    let said = stdout(tch_mnist(&["report"]).arg(&out));
    assert!(said.contains("report.html"), "{said}");
    assert!(looked_at(&out) == first);

    // An interrupted run leaves a checkpoint, and metrics without an end.
    let metrics = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let epochs: String = metrics.lines().take(1).map(|line| format!("{line}\n")).collect();
    fs::write(out.join("metrics.jsonl"), epochs).unwrap();
    tch_mnist(&["report"]).arg(&out).assert().success();
    assert!(self::page(&out).contains("Not finished: 1 of 2 epochs so far."));
}

/// Asserts that the page of a run with `--limit-train` lists what was changed first, and nothing that SGD and StepLR lack.
fn assert_settings_in_force(page: &str) {
    let settings = page.split("<h2>Settings</h2>").nth(1).unwrap().split("</table>").next().unwrap();
    let (changed, others) = settings.split_once("<th colspan=\"2\">others").unwrap();
    let keys = |rows: &str| -> Vec<String> {
        rows.split("<th>").skip(1).map(|row| row.split("</th>").next().unwrap().to_string()).collect()
    };
    assert_eq!(keys(changed), ["limit-train", "limit-test", "epochs"]);
    let others = keys(others);
    for (key, is_there) in [("momentum", true), ("step-size", true), ("betas", false), ("t-0", false), ("alpha", false)]
    {
        assert_eq!(others.contains(&key.to_string()), is_there, "{key} in {others:?}");
    }
}

#[test]
fn a_half_written_last_line_is_passed_over_and_a_damaged_one_named() {
    let (_folder, out) = out();
    train(&out, &["-q"]).assert().success();
    for name in ["metrics.jsonl", "losses.csv"] {
        let path = out.join(name);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        tch_mnist(&["report"]).arg(&out).assert().success();
        fs::write(&path, whole).unwrap();
    }
    let path = out.join("metrics.jsonl");
    let damaged = fs::read_to_string(&path).unwrap().replace("\"epoch\":1,", "\"epoch\":1");
    fs::write(&path, damaged).unwrap();
    let (sentence, code) = failure(tch_mnist(&["report"]).arg(&out));
    assert!(sentence.starts_with(&format!("error: {} is damaged: line 2: ", path.display())), "{sentence}");
    assert_eq!(code, 1);
}

#[test]
fn the_confusion_matrix_has_the_counts_of_evaluate() {
    let (_folder, out) = out();
    train(&out, &["-q"]).assert().success();
    assert!(!out.join("report.html").exists() && !out.join("plots").exists());
    let plots = out.join("elsewhere");
    let mut evaluate = tch_mnist(&["evaluate", "--data", DATA, "--limit-test", "500", "--log-format", "json"]);
    evaluate.arg("--weights").arg(out.join("model.pth")).arg("--plots").arg(&plots);
    let line = &json_lines(&stdout(&mut evaluate))[0];
    assert_eq!(names(&plots), ["confusion.png", "confusion.svg", "misclassified.png", "misclassified.svg"]);
    let svg = fs::read_to_string(plots.join("confusion.svg")).unwrap();
    let texts: Vec<&str> = svg.split("</text>").filter_map(|text| text.rsplit('>').next()).map(str::trim).collect();
    for row in line["confusion"].as_array().unwrap() {
        let images: i64 = row.as_array().unwrap().iter().map(|count| count.as_i64().unwrap()).sum();
        assert!(images > 0);
        let counts: Vec<String> = row.as_array().unwrap().iter().map(ToString::to_string).collect();
        let counts: Vec<&str> = counts.iter().map(String::as_str).filter(|count| *count != "0").collect();
        assert!(texts.windows(counts.len()).any(|window| window == counts), "{counts:?} in {texts:?}");
    }
    let worst = fs::read_to_string(plots.join("misclassified.svg")).unwrap();
    let wrong = 500 - line["correct"].as_i64().unwrap();
    assert!(worst.contains(&format!("The worst 20 of {wrong} misclassified")));
    assert_eq!(worst.matches("<image ").count(), 20);
}

#[test]
fn several_runs_make_one_page() {
    let folder = tempfile::tempdir().unwrap();
    let [slow, fast, again] = ["slow & steady", "fast", "again"].map(|name| folder.path().join(name));
    train(&slow, &["-q", "--lr", "0.003", "--report"]).assert().success();
    train(&fast, &["-q", "--lr", "0.03", "--step-size", "1"]).assert().success();
    // A copy has the same curves.
    fs::create_dir(&again).unwrap();
    for name in ["config.toml", "environment.json", "metrics.jsonl", "losses.csv"] {
        fs::copy(fast.join(name), again.join(name)).unwrap();
    }
    let said = stdout(tch_mnist(&["report"]).args([&slow, &fast, &again]));
    assert!(said.contains("3 runs side by side"), "{said}");
    let page = fs::read_to_string(folder.path().join("comparison.html")).unwrap();
    assert_offline(&page);
    for part in [
        "<a href=\"slow%20%26%20steady/report.html\">slow &amp; steady</a>",
        "fast",
        "the same curves as fast",
        "stroke-dasharray",
        ">0.003<",
        ">0.03<",
        "Error, % (test)",
        "Learning rate",
        "<td class=\"n\">500 test images</td>",
        "<th class=\"n\">loss</th><th class=\"n\">training loss</th><th class=\"n\">parameters</th>",
        "<td class=\"n\">11,392</td>",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert_eq!(page.matches("the same curves as").count(), 1);
    assert_eq!(page.matches("<a href=").count(), 2, "a run without a report has no link");
    assert!(!page.contains(">momentum<"), "a setting that is the same is listed as one that differs");

    let elsewhere = folder.path().join("new/page.html");
    tch_mnist(&["report"]).args([&slow, &fast]).arg("--out").arg(&elsewhere).assert().success();
    let moved = fs::read_to_string(&elsewhere).unwrap();
    assert!(moved.contains("<a href=\"../slow%20%26%20steady/report.html\">"));
    for (runs, flag, expected) in [
        (&[&slow, &fast][..], "--data", "--data and --device are for the report of one run"),
        (&[&slow], "--out", "--out is for a page that compares several runs"),
    ] {
        let (sentence, code) = failure(tch_mnist(&["report"]).args(runs).arg(flag).arg("nowhere"));
        assert_eq!((sentence.contains(expected), code), (true, 2), "{sentence}");
    }
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), moved);

    // A resumed run may be looked at where the first part of it was not.
    let mut resume = tch_mnist(&["train", "-q", "--report", "--epochs", "3", "--resume"]);
    resume.arg(&slow).assert().success();
    assert!(self::page(&slow).contains("<b>3</b><span>epochs"));
}

#[test]
fn what_is_no_run_is_refused_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let (sentence, code) = failure(tch_mnist(&["report"]).arg(&missing));
    assert!(code == 1 && sentence.contains("is not the folder of a run: it does not exist"), "{sentence}");
    let file = folder.path().join("model.pt");
    fs::write(&file, "").unwrap();
    let (sentence, code) = failure(tch_mnist(&["report"]).arg(&file));
    assert!(code == 1 && sentence.contains("but a file"), "{sentence}");
    let (sentence, code) = failure(tch_mnist(&["report"]).arg(folder.path()));
    assert!(code == 1 && sentence.contains("holds no metrics.jsonl"), "{sentence}");
    for (text, reason) in [("", "holds no epoch"), ("{\"event\":\n", "is damaged"), ("{\"event\":\"x\"}", "no event")] {
        fs::write(folder.path().join("metrics.jsonl"), text).unwrap();
        let (sentence, code) = failure(tch_mnist(&["report"]).arg(folder.path()));
        assert!(code == 1 && sentence.contains(reason) && sentence.contains("metrics.jsonl"), "{sentence}");
    }
    let (sentence, code) = failure(tch_mnist(&["report", "--out", "x.html"]).arg(folder.path()));
    assert!(code == 2 && sentence.contains("compares several"), "{sentence}");
    assert_eq!(failure(&mut tch_mnist(&["report"])).1, 2);
}

#[test]
fn a_report_of_other_data_is_refused() {
    let (folder, out) = out();
    train(&out, &["-q"]).assert().success();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    for name in names(&Path::new(DATA).join("mnist")) {
        fs::copy(Path::new(DATA).join("mnist").join(&name), data.join(&name)).unwrap();
    }
    let labels = data.join("t10k-labels-idx1-ubyte");
    let mut bytes = fs::read(&labels).unwrap();
    bytes[8] = (bytes[8] + 1) % 10;
    fs::write(&labels, bytes).unwrap();
    let mut report = tch_mnist(&["report", "-q", "--data"]);
    let (sentence, code) = failure(report.arg(&data).arg(&out));
    assert!(code == 1 && sentence.contains("t10k-labels-idx1-ubyte") && sentence.contains("SHA-256"), "{sentence}");
}
