//! `tch-mnist import`: data of any form as the four IDX files.

use super::{Outcome, Verbosity};
use crate::data::{Import, Imported, Info, refuse_existing, sources};
use crate::error::pasted;
use crate::flags::within;
use crate::observe::say;
use crate::report;
use crate::settings::Inversion;
use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use std::path::{Path, PathBuf};

/// The picture of the first images of each class.
const SHEET: &str = "import";

/// Turn pictures, tables or arrays into a dataset to train on
#[derive(clap::Parser)]
#[command(name = "import", after_help = help())]
pub(super) struct Args {
    /// Files or folders
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<PathBuf>,
    /// The folder to write
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// A source of test images alone; may be given more than once
    #[arg(long, value_name = "SOURCE")]
    test: Vec<PathBuf>,
    /// The share of each class that becomes the test set if the sources have none; 0: no test set
    #[arg(long, value_name = "SHARE", default_value_t = 0.15, value_parser = within("a share", 0.0..1.0))]
    test_share: f64,
    /// Chooses the images of that share
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = within("a whole number", 0i64..))]
    seed: i64,
    /// Exchange rows and columns of all images; files named emnist-* need no flag
    #[arg(long)]
    transpose: bool,
    #[command(flatten)]
    inversion: Inversion,
    /// Leave out pictures that cannot be read
    #[arg(long)]
    skip_unreadable: bool,
    /// Replace the data that are in DIR
    #[arg(long)]
    force: bool,
}

fn help() -> String {
    let forms: String = sources::forms().map(|(title, about)| format!("\n  {title}: {about}")).collect();
    format!(
        "SOURCE is data in one of these forms, or a folder of such files:{forms}\n\nPictures of 28x28 pixels are taken as they \
         are, others as `predict` prepares them. A source whose name says neither train nor test is divided by --test-share. \
         Names of digits are put in the digits' order, other labels become classes in sorted order, at most ten. docs/data.md \
         says more."
    )
}

/// Runs the command.
pub(super) fn run(args: Args, verbosity: Verbosity) -> Result<Outcome> {
    if !args.force {
        refuse_existing(&args.data)?;
    }
    let Args { sources, data, test, test_share, seed, transpose, skip_unreadable, .. } = &args;
    let (test_share, seed, transpose, skip_unreadable) = (*test_share, *seed, *transpose, *skip_unreadable);
    let polarity = args.inversion.invert.into();
    let import = Import { sources, test, test_share, seed, transpose, skip_unreadable, polarity };
    let opened = import.open()?;
    let bar = bar(opened.count(), verbosity.shows_bars());
    let imported = opened.read(|images| bar.inc(images));
    bar.finish_and_clear();
    let imported = imported?;
    for picture in &imported.left_out {
        tracing::warn!("left out: {picture}");
    }
    let named: Vec<&Path> = sources.iter().chain(test).map(PathBuf::as_path).collect();
    let info = imported.write(data, &named)?;
    write_sheet(&imported, &info, data)?;
    say(table(&info))?;
    // Without a test set a training has to hold images out.
    let validation = if info.test.is_none() { " --validation N" } else { "" };
    tracing::info!("next: tch-mnist train --data {}{validation}", pasted(data));
    Ok(Outcome::Done)
}

fn bar(images: Option<u64>, show: bool) -> ProgressBar {
    if !show {
        return ProgressBar::hidden();
    }
    let template = match images {
        Some(_) => "[{bar:30}] {human_pos}/{human_len} images {per_sec} {eta}",
        None => "{human_pos} images {per_sec}",
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    images.map_or_else(ProgressBar::no_length, ProgressBar::new).with_style(style.progress_chars("##-"))
}

/// The first images of each class as `import.svg` and `import.png`, to see whether they are the right way round.
fn write_sheet(imported: &Imported, info: &Info, folder: &Path) -> Result<()> {
    let sheet = imported.train.sheet(&info.classes, report::SHEET_COLUMNS);
    report::write_plots(folder, &[(SHEET, report::sheet(&info.name, &sheet, &info.classes)?)])
}

/// How many images there are of each class.
fn table(info: &Info) -> String {
    let names: Vec<String> = (0..info.classes.count()).map(|class| info.classes.name(class)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(5);
    let test = |class: usize| info.test.as_ref().map_or(0, |counts| counts.per_class[class]);
    let mut lines = vec![format!("{:<width$}  {:>8}  {:>8}", "class", "training", "test")];
    for (class, name) in names.iter().enumerate() {
        lines.push(format!("{name:<width$}  {:>8}  {:>8}", info.train.per_class[class], test(class)));
    }
    let all = info.test.as_ref().map_or(0, |counts| counts.images);
    lines.push(format!("{:<width$}  {:>8}  {all:>8}", "all", info.train.images));
    lines.join("\n")
}
