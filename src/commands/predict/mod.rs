//! `tch-mnist predict`: which digit a picture shows.

mod inputs;
mod output;

use super::session::Inference;
use super::{Outcome, Verbosity};
use crate::digit::{self, Digit};
use crate::error::sentence;
use crate::observe::{log, say};
use crate::predict::Predictor;
use anyhow::{Result, bail};
use inputs::{Input, Inputs};
use output::{Format, Line};
use std::path::PathBuf;

/// Images that go through the net together.
const BATCH: usize = 128;

/// The flags of `predict`.
#[derive(clap::Args)]
#[command(
    after_help = "A picture may be of any size and colour, dark on light or light on dark, transparent, noisy or badly \
    lit: the digit is found, scaled to 20 pixels and centred by mass in 28x28, as MNIST was made. A picture that has \
    MNIST's form already is left as it is, and so are the images of CSV, .npz, .npy, parquet and IDX files. -v shows what \
    the net sees. A picture that cannot be read is reported on stderr, the others are predicted, and the exit code is 1."
)]
pub(super) struct Args {
    #[command(flatten)]
    inference: Inference,
    /// Pictures, folders of them, files of images (CSV, .npz, .npy, parquet, IDX), or - for a picture on stdin
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// Take 28x28 pictures as they are, whatever they look like
    #[arg(long)]
    raw: bool,
    /// Lines for people, one JSON object per image, or Kaggle's ImageId,Label
    #[arg(long, alias = "log-format", value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
}

/// Runs the command.
pub(super) fn run(mut args: Args, verbosity: Verbosity) -> Result<Outcome> {
    log::init(verbosity.level());
    let (backend, net) = args.inference.net()?;
    let predictor = Predictor { net, device: backend.device, classes: args.inference.file.classes()? };
    if let Some(header) = args.format.header() {
        say(header)?;
    }
    let (mut batch, mut images, mut failures) = (Vec::new(), 0, 0);
    for input in Inputs::open(&args.images, args.raw)? {
        images += 1;
        match input {
            Ok(input) => batch.push(input),
            Err(error) if args.images.len() == 1 && !args.images[0].is_dir() => return Err(error),
            Err(error) => {
                eprintln!("error: {}", sentence(&error));
                failures += 1;
            }
        }
        if batch.len() == BATCH {
            predict(&predictor, &std::mem::take(&mut batch), args.format, verbosity)?;
        }
    }
    predict(&predictor, &batch, args.format, verbosity)?;
    match failures {
        0 => Ok(Outcome::Done),
        _ => bail!("{failures} of {images} images could not be predicted"),
    }
}

fn predict(predictor: &Predictor, batch: &[Input], format: Format, verbosity: Verbosity) -> Result<()> {
    let digits: Vec<Digit> = batch.iter().map(|input| input.digit).collect();
    for (input, prediction) in batch.iter().zip(predictor.classify(&digits)?) {
        if verbosity.verbose > 0 {
            eprintln!("{}", digit::sketch(&input.digit));
        }
        say(Line { input, prediction: &prediction, classes: &predictor.classes }.text(format)?)?;
    }
    Ok(())
}
