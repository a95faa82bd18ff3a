//! `tch-mnist predict`: which digits a picture shows.

mod inputs;
mod output;

use super::session::Prediction;
use super::{Outcome, Verbosity};
use crate::data::sources;
use crate::digit;
use crate::error::sentence;
use crate::observe::{complain, say};
use crate::predict::Predictor;
use crate::settings::{Inversion, KernelsChoice};
use anyhow::{Result, bail};
use inputs::{How, Input, inputs};
use output::Format;
use std::path::PathBuf;

/// Pictures that go through the net together.
const BATCH: usize = 128;

/// Predict which digit a picture shows
#[derive(clap::Parser)]
#[command(name = "predict", override_usage = "tch-mnist predict [OPTIONS] --weights <FILE> <IMAGE>...")]
#[command(
    after_help = "A picture may be of any size and colour, dark on light or light on dark, transparent, noisy, badly lit, \
    on lined paper or in a box: each digit is found, scaled to 20 pixels and centred by mass in 28x28, as MNIST was made. \
    Pictures already in MNIST's form, and images in files that hold many, are used unchanged. \
    A TIFF is read page by page. \
    ? is something that does not look like a digit, with the nearest digit behind it, or a mark, such as a point, a sign or \
    a slash; weights without \
    what digits look like are judged by the training data that --dataset and --data name. -v shows what the net sees. A \
    picture that cannot be read is reported on stderr, the others are predicted, and the exit code is 1."
)]
pub(super) struct Args {
    #[command(flatten)]
    prediction: Prediction,
    /// Pictures, folders of them, files of many images as `import` takes them, or - for a picture on stdin
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// Read the whole picture as one digit
    #[arg(long)]
    one: bool,
    /// Take 28x28 pictures as they are, whatever they look like
    #[arg(long, conflicts_with = "one")]
    raw: bool,
    #[command(flatten)]
    inversion: Inversion,
    /// What stdout gets
    #[arg(long, alias = "log-format", value_enum, default_value_t, value_name = "FORMAT", help_heading = "Output")]
    format: Format,
}

/// Runs the command.
pub(super) fn run(mut args: Args, verbosity: Verbosity) -> Result<Outcome> {
    let (predictor, _) = args.prediction.predictor(KernelsChoice::Auto)?;
    if let Some(header) = args.format.header() {
        say(header)?;
    }
    let how = match args {
        Args { raw: true, .. } => How::Raw,
        Args { one: true, .. } => How::One,
        _ => How::All,
    };
    let is_one_picture = args.images.len() == 1 && !args.images[0].is_dir() && !sources::is_table(&args.images[0]);
    let (mut batch, mut images, mut failures, mut doubts) = (Vec::new(), 0, 0, 0);
    let mut inputs = inputs(&args.images, how, args.inversion.invert.into())?.peekable();
    while let Some(input) = inputs.next() {
        images += 1;
        match input {
            Ok(input) => batch.push(input),
            Err(error) if is_one_picture && images == 1 && inputs.peek().is_none() => return Err(error),
            Err(error) => {
                complain(format_args!("error: {}", sentence(&error)));
                failures += 1;
            }
        }
        if batch.len() == BATCH {
            doubts += predict(&predictor, std::mem::take(&mut batch), args.format, verbosity)?;
        }
    }
    doubts += predict(&predictor, batch, args.format, verbosity)?;
    if doubts > 0 {
        legend(args.format, doubts);
    }
    match failures {
        0 => Ok(Outcome::Done),
        _ => bail!("{failures} of {images} images could not be predicted"),
    }
}

/// Predicts the digits of all pages in `batch` together. Returns how many of them have something that is no digit.
fn predict(predictor: &Predictor, mut batch: Vec<Input>, format: Format, verbosity: Verbosity) -> Result<usize> {
    let pages = batch.iter_mut().map(|input| std::mem::take(&mut input.lines)).collect();
    let mut doubts = 0;
    for (reading, input) in predictor.read(pages)?.iter().zip(&batch) {
        if verbosity.verbose > 0 {
            reading.digits().for_each(|(found, _)| complain(digit::sketch(&found.digit)));
        }
        format.lines(reading, input)?.iter().try_for_each(say)?;
        doubts += usize::from(reading.has_doubt());
    }
    Ok(doubts)
}

/// Says what a question mark is; and in Kaggle's form, which has none for the images of a file of many, how many there
/// would be. JSON has words for it.
fn legend(format: Format, doubts: usize) {
    const MEANING: &str = "something that does not look like a digit, with the nearest digit behind it, or a mark, such as a \
                           point, a sign or a slash";
    match format {
        Format::Text => tracing::info!("? is {MEANING}"),
        Format::Csv => tracing::info!(
            "{doubts} images have something that does not look like a digit: ? for a picture; --format json says which"
        ),
        Format::Json => {}
    }
}
