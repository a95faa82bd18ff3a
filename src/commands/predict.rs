//! `tch-mnist predict`: which digit a picture shows.

use super::session::Inference;
use super::{Outcome, Verbosity};
use crate::data::pixel_table;
use crate::digit::{self, Digit};
use crate::error::{sentence, without_panic};
use crate::model::Net;
use crate::observe::{LogFormat, log, say};
use crate::run_folder;
use crate::shape::SIDE;
use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Serialize;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// The largest file that is read as a picture, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// Pictures that go through the net together.
const BATCH: usize = 128;

/// The flags of `predict`.
#[derive(clap::Args)]
#[command(
    after_help = "A picture may be of any size and colour, dark on light or light on dark, transparent, noisy or badly \
    lit: the digit is found, scaled to 20 pixels and centred by mass in 28x28, as MNIST was made. A picture that has \
    MNIST's form already is left as it is. -v shows what the net sees. A picture that cannot be read is reported on \
    stderr, the others are predicted, and the exit code is 1."
)]
pub(super) struct Args {
    #[command(flatten)]
    inference: Inference,
    /// PNG, JPEG, BMP or GIF files, folders of them, or - for stdin
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// Take 28x28 pictures as they are, whatever they look like
    #[arg(long)]
    raw: bool,
    /// Lines for people, or one JSON object per picture
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: LogFormat,
}

/// Runs the command.
pub(super) fn run(mut args: Args, verbosity: Verbosity) -> Result<Outcome> {
    log::init(verbosity.level());
    let (backend, net) = args.inference.net()?;

    let paths = files(&args.images)?;
    let mut failures = 0;
    for paths in paths.chunks(BATCH) {
        let mut digits = Vec::new();
        for path in paths {
            let read = || digit_in(path, args.raw).with_context(|| format!("{} cannot be predicted", path.display()));
            match read() {
                Ok(digit) => digits.push((path, digit)),
                Err(error) if args.images.len() == 1 && args.images[0] == *path => return Err(error),
                Err(error) => {
                    eprintln!("error: {}", sentence(&error));
                    failures += 1;
                }
            }
        }
        for ((path, digit), probabilities) in digits.iter().zip(probabilities(&net, backend.device, &digits)?) {
            if verbosity.verbose > 0 {
                eprintln!("{}", digit::sketch(digit));
            }
            say(line(path, &probabilities, args.log_format)?)?;
        }
    }
    match failures {
        0 => Ok(Outcome::Done),
        _ => bail!("{failures} of {} pictures could not be predicted", paths.len()),
    }
}

/// The files that `images` name: a folder stands for the pictures in it, sorted by name.
fn files(images: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for image in images {
        if !image.is_dir() {
            files.push(image.clone());
            continue;
        }
        let cannot = || format!("the folder {} cannot be read", image.display());
        let entries = std::fs::read_dir(image).with_context(cannot)?;
        let mut inside = Vec::new();
        for entry in entries {
            let path = entry.with_context(cannot)?.path();
            let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
            if ["png", "jpg", "jpeg", "bmp", "gif"].contains(&ending.as_str()) {
                inside.push(path);
            }
        }
        ensure!(!inside.is_empty(), "the folder {} holds no .png, .jpg, .bmp or .gif", image.display());
        inside.sort();
        files.extend(inside);
    }
    Ok(files)
}

fn digit_in(path: &Path, raw: bool) -> Result<Digit> {
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    } else {
        // Asked before it is opened: opening a pipe would wait for its other end.
        ensure!(std::fs::metadata(path)?.is_file(), "it is not a regular file");
        File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    }
    ensure!(bytes.len() as u64 <= MAX_BYTES, "it has more than {} MiB", MAX_BYTES >> 20);
    let read = || if raw { digit::read_raw(&bytes) } else { digit::read(&bytes) };
    // A decoder's mistake must not end a batch.
    without_panic(read)
}

/// The probabilities of the ten classes for each digit.
fn probabilities(net: &Net, device: Device, digits: &[(&PathBuf, Digit)]) -> Result<Vec<Vec<f64>>> {
    if digits.is_empty() {
        return Ok(Vec::new());
    }
    let _no_grad = tch::no_grad_guard();
    let bytes: Vec<i64> = digits.iter().flat_map(|(_, digit)| digit.iter().map(|&byte| i64::from(byte))).collect();
    let images = pixel_table().f_index_select(0, &Tensor::from_slice(&bytes))?;
    let images = images.f_view([-1, 1, SIDE as i64, SIDE as i64])?.f_to_device(device)?;
    let output = net.forward_t(&images, false).f_exp()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?;
    let numbers = Vec::<f64>::try_from(output.f_reshape([-1])?)?;
    Ok(numbers.chunks(numbers.len() / digits.len()).map(<[f64]>::to_vec).collect())
}

/// `three.png: 3 99.98%, 8 0.01%`, or the same as JSON with all ten probabilities.
fn line(path: &Path, probabilities: &[f64], format: LogFormat) -> Result<String> {
    #[derive(Serialize)]
    struct Prediction<'a> {
        file: &'a str,
        digit: usize,
        probability: f64,
        runner_up: usize,
        runner_up_probability: f64,
        probabilities: &'a [f64],
    }
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
    let [digit, runner_up, ..] = order[..] else { return Err(anyhow!("the net has fewer than two classes")) };
    let (probability, runner_up_probability) = (probabilities[digit], probabilities[runner_up]);
    match format {
        LogFormat::Text => {
            let (first, second) = (100.0 * probability, 100.0 * runner_up_probability);
            Ok(format!("{}: {digit} {first:.2}%, {runner_up} {second:.2}%", path.display()))
        }
        LogFormat::Json => {
            // JSON has no form for a name that is not UTF-8.
            let file = &*path.to_string_lossy();
            let line = Prediction { file, digit, probability, runner_up, runner_up_probability, probabilities };
            run_folder::line("prediction", &line)
        }
    }
}
