//! Pictures of digits: MNIST's own images, other pictures of digits, and files that are refused.

mod common;

use common::*;
use image::{DynamicImage, GrayImage, ImageFormat, Rgba, RgbaImage};
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// The first `count` test images of MNIST, 28x28 bytes each.
fn test_images(count: usize) -> Vec<Vec<u8>> {
    let bytes = fs::read(Path::new(DATA).join("mnist/t10k-images-idx3-ubyte")).unwrap();
    bytes[16..].chunks(784).take(count).map(<[u8]>::to_vec).collect()
}

fn gray(bytes: &[u8]) -> GrayImage {
    GrayImage::from_raw(28, 28, bytes.to_vec()).unwrap()
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.write_to(&mut Cursor::new(&mut bytes), format).unwrap();
    bytes
}

/// A quickly trained net's weights.
fn weights(out: &Path) -> PathBuf {
    train(out, &["-q", "--limit-train", "3000", "--batch-size", "32"]).assert().success();
    out.join("model.pt")
}

fn predict(weights: &Path, args: &[&str]) -> Program {
    let mut command = tch_mnist(&["predict", "--device", "cpu", "--weights"]);
    command.arg(weights).args(args);
    command
}

#[test]
fn test_images_as_png_give_what_evaluate_gives() {
    let (folder, out) = out();
    let weights = weights(&out);
    let pictures = folder.path().join("pictures");
    fs::create_dir(&pictures).unwrap();
    let images = test_images(1000);
    for (k, bytes) in images.iter().enumerate() {
        gray(bytes).save(pictures.join(format!("{k:04}.png"))).unwrap();
    }
    // A file whose name is not a picture's is skipped in a folder.
    fs::write(pictures.join("notes.txt"), "no picture").unwrap();
    let predictions = json_lines(&stdout(predict(&weights, &["--log-format", "json"]).arg(&pictures)));
    assert_eq!(predictions.len(), 1000);
    let labels = fs::read(Path::new(DATA).join("mnist/t10k-labels-idx1-ubyte")).unwrap();
    let right =
        predictions.iter().zip(&labels[8..]).filter(|(line, label)| line["digit"] == u64::from(**label)).count();
    let mut evaluate = tch_mnist(&["evaluate", "--device", "cpu", "--data", DATA, "--limit-test", "1000"]);
    let evaluation = json_lines(&stdout(evaluate.args(["--log-format", "json", "--weights"]).arg(&weights)));
    assert_eq!(evaluation[0]["correct"], right);
    for (k, line) in predictions.iter().enumerate() {
        assert!(line["file"].as_str().unwrap().ends_with(&format!("{k:04}.png")), "{line}");
        let probabilities: Vec<f64> =
            line["probabilities"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).collect();
        assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-5, "{line}");
        let highest = probabilities.iter().fold(0.0, |a: f64, &b| a.max(b));
        assert_eq!(line["probability"].as_f64().unwrap(), highest);
        assert!(line["runner_up_probability"].as_f64().unwrap() <= highest && line["runner_up"] != line["digit"]);
    }

    // The same picture in words, from a file, from stdin, and with what the net sees.
    let file = pictures.join("0000.png");
    let first = &predictions[0];
    let percent =
        |key: &str| format!("{} {:.2}%", first[key], 100.0 * first[format!("{key}_probability")].as_f64().unwrap());
    let digit = format!("{} {:.2}%", first["digit"], 100.0 * first["probability"].as_f64().unwrap());
    let words = format!("{digit}, {}\n", percent("runner_up"));
    let output = predict(&weights, &["-v"]).arg(&file).assert().success().get_output().clone();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{}: {words}", file.display()));
    assert!(String::from_utf8(output.stderr).unwrap().contains("██"));
    let said = stdout(&mut predict(&weights, &["-"]).write_stdin(fs::read(&file).unwrap()));
    assert_eq!(said, format!("-: {words}"));
}

/// The mean difference of two digits, in shades of 256.
fn difference(one: &[u8], other: &[u8]) -> f64 {
    one.iter().zip(other).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / 784.0
}

#[test]
fn every_test_image_is_left_as_it_is() {
    for bytes in test_images(10_000) {
        assert!(tch_mnist::digit::has_mnist_form(&bytes.try_into().unwrap()));
    }
    let bytes = &test_images(1)[0];
    let png = encoded(&gray(bytes).into(), ImageFormat::Png);
    assert_eq!(tch_mnist::digit::read(&png).unwrap().digit.to_vec(), *bytes);
    // Moved by two pixels it no longer has MNIST's form: without --raw it is moved back.
    let mut moved = bytes.clone();
    moved.rotate_right(2);
    let png = encoded(&gray(&moved).into(), ImageFormat::Png);
    assert_eq!(tch_mnist::digit::read_raw(&png).unwrap().to_vec(), moved);
    assert!(difference(&moved, bytes) > 20.0);
    assert!(difference(&tch_mnist::digit::read(&png).unwrap().digit, bytes) < 6.0);
}

#[test]
fn a_digit_is_the_same_whatever_the_picture_looks_like() {
    let ink = |scale: u32, bytes: &[u8]| {
        image::imageops::resize(&gray(bytes), 28 * scale, 28 * scale, image::imageops::FilterType::CatmullRom)
    };
    let painted = |scale: u32, bytes: &[u8], paint: &dyn Fn(u8) -> [u8; 4]| -> DynamicImage {
        let ink = ink(scale, bytes);
        RgbaImage::from_fn(ink.width() + 40, ink.height() + 90, |x, y| {
            let inside = x < ink.width() && y < ink.height();
            Rgba(paint(if inside { ink.get_pixel(x, y).0[0] } else { 0 }))
        })
        .into()
    };
    let mix = |a: u8, b: u8, byte: u8| {
        ((u32::from(a) * u32::from(byte) + u32::from(b) * (255 - u32::from(byte))) / 255) as u8
    };
    for bytes in test_images(30) {
        let pictures: Vec<(&str, DynamicImage, ImageFormat)> = vec![
            ("dark on light", painted(9, &bytes, &|b| [255 - b, 255 - b, 255 - b, 255]), ImageFormat::Jpeg),
            (
                "light on dark, small",
                painted(2, &bytes, &|b| [b / 2 + 60, b / 2 + 60, b / 2 + 60, 255]),
                ImageFormat::Bmp,
            ),
            ("black on nothing", painted(5, &bytes, &|b| [0, 0, 0, b]), ImageFormat::Png),
            ("white on nothing", painted(5, &bytes, &|b| [255, 255, 255, b]), ImageFormat::Png),
            (
                // Of the same brightness.
                "red on green",
                painted(6, &bytes, &|b| [mix(200, 0, b), mix(0, 102, b), 0, 255]),
                ImageFormat::Png,
            ),
            (
                "of two shades",
                painted(4, &bytes, &|b| if b > 127 { [90, 60, 30, 255] } else { [240, 240, 200, 255] }),
                ImageFormat::Gif,
            ),
        ];
        for (name, picture, format) in pictures {
            let picture = if format == ImageFormat::Png || format == ImageFormat::Gif {
                picture
            } else {
                picture.into_rgb8().into()
            };
            let digit = tch_mnist::digit::read(&encoded(&picture, format)).unwrap().digit;
            let difference = difference(&digit, &bytes);
            // Scaled up and down again it is less sharp; two different digits differ by some 40.
            assert!(difference < 22.0, "{name}: {difference}\n{}", tch_mnist::digit::sketch(&digit));
        }
    }
}

#[test]
fn what_is_no_picture_of_a_digit_is_refused_in_a_sentence() {
    let (folder, out) = out();
    let weights = weights(&out);
    let at = |name: &str| folder.path().join(name);
    let good = at("good.png");
    gray(&test_images(1)[0]).save(&good).unwrap();
    let whole = fs::read(&good).unwrap();
    GrayImage::from_pixel(50, 60, image::Luma([200])).save(at("blank.png")).unwrap();
    fs::write(at("text.png"), "a text").unwrap();
    fs::write(at("empty.png"), "").unwrap();
    fs::write(at("cut.png"), &whole[..whole.len() / 2]).unwrap();
    // A picture of 65,000 by 65,000 pixels in a hundred bytes.
    let mut bomb = whole.clone();
    bomb[16..24].copy_from_slice(&[0, 0, 0xfd, 0xe8, 0, 0, 0xfd, 0xe8]);
    let checksum = flate2::Crc::new();
    let mut checksum = checksum;
    checksum.update(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&checksum.sum().to_be_bytes());
    fs::write(at("bomb.png"), bomb).unwrap();
    fs::create_dir(at("nothing")).unwrap();
    for (name, reason) in [
        ("missing.png", "No such file"),
        ("blank.png", "one colour"),
        ("text.png", "it is not a picture in a format that can be read: PNG, JPEG, "),
        ("empty.png", "it is empty"),
        ("cut.png", "cannot be decoded"),
        ("bomb.png", "65000x65000 pixels"),
        ("nothing", "holds no .png"),
    ] {
        let (sentence, code) = failure(predict(&weights, &[]).arg(at(name)));
        assert!(code == 1 && sentence.contains(name) && sentence.contains(reason), "{sentence}");
    }
    let big = at("big.png");
    GrayImage::new(30, 28).save(&big).unwrap();
    let (sentence, _) = failure(predict(&weights, &["--raw"]).arg(&big));
    assert!(sentence.contains("30x28 pixels; --raw takes 28x28"), "{sentence}");

    // The others are predicted all the same.
    let mut several = predict(&weights, &[]);
    let output = several.arg(at("text.png")).arg(&good).arg(at("blank.png")).assert().code(1).get_output().clone();
    let (said, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(said.lines().count() == 1 && said.contains("good.png: "), "{said}");
    // The weights have no figures of what digits look like: measuring them takes seconds, and the log says so.
    let (log, errors): (Vec<&str>, Vec<&str>) = errors.lines().partition(|line| line.starts_with(" INFO "));
    assert!(log.len() == 1 && log[0].contains("measuring them on MNIST"), "{log:?}");
    assert!(errors.len() == 3 && errors[0].contains("text.png") && errors[1].contains("blank.png"), "{errors:?}");
    assert!(errors[2].contains("2 of 3 images"), "{errors:?}");

    assert_eq!(failure(&mut predict(&weights, &[])).1, 2);
    let (sentence, code) = failure(predict(&at("none.pt"), &[]).arg(&good));
    assert!(code == 1 && sentence.contains("none.pt"), "{sentence}");
}
