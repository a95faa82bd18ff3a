//! `tch-mnist download`.

use super::Outcome;
use crate::data::{Checksum, FILES, Fetcher, Info, Need, Place, STALL_TIMEOUT, inspect_file};
use crate::error::UsageError;
use crate::observe::say;
use crate::settings::{Source, within};
use anyhow::{Result, bail};
use std::time::Duration;

/// Download a dataset and check it
#[derive(clap::Parser)]
#[command(name = "download")]
#[command(
    after_help = "Each file is downloaded gzipped, checked by its SHA-256, unpacked, and put in place whole. A file that \
    is there and valid is left alone; one that is damaged or not the published file is replaced."
)]
pub(super) struct Args {
    #[command(flatten)]
    source: Source,
    /// Download from URL/train-images-idx3-ubyte.gz and so on instead; may be given more than once, to be tried in turn
    #[arg(long, value_name = "URL")]
    mirror: Vec<String>,
    /// Seconds that a mirror may send nothing before the next is tried
    #[arg(long, default_value_t = STALL_TIMEOUT.as_secs_f64(), value_name = "SECONDS", value_parser = within("a number of seconds", 0.001..=1e6))]
    timeout: f64,
    /// Only check the files that are there: download and change nothing
    #[arg(long, conflicts_with_all = ["mirror", "timeout"])]
    check: bool,
}

/// Runs the command.
pub(super) fn run(args: Args, verbosity: super::Verbosity) -> Result<Outcome> {
    let timeout = Duration::from_secs_f64(args.timeout);
    for mirror in &args.mirror {
        let usable = mirror.parse().is_ok_and(|uri: ureq::http::Uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
        });
        if !usable {
            bail!(UsageError(format!("--mirror {mirror}: an address such as https://host/folder/ is expected")));
        }
    }
    let place = Place::new(&args.source.data, args.source.dataset);
    if args.check {
        return check(&place);
    }
    if let Some(info) = Info::read(&place.folder)? {
        bail!("{} holds {}, which was imported: nothing is downloaded into it", place.folder.display(), info.name);
    }
    let mut fetcher = Fetcher::new(&place, &args.mirror, timeout, verbosity.shows_bars())?;
    for (index, file) in FILES.iter().enumerate() {
        let there = inspect_file(&place.folder, args.source.dataset, index);
        let path = there.path.clone().unwrap_or_else(|| place.folder.join(file.name));
        place.refuse_other(&path, &there.checksum)?;
        match &there.checksum {
            good if good.is_good() => {
                line(file.name, there.bytes, "already there", &there.checksum)?;
                continue;
            }
            reason if path.is_dir() => bail!("{} {reason}: move it away", path.display()),
            _ => {}
        }
        let fetched = fetcher.fetch(index)?;
        let how = match there.checksum {
            Checksum::Missing => format!("fetched from {}", fetched.mirror),
            wrong => format!("fetched from {} instead of the one that was there ({wrong})", fetched.mirror),
        };
        line(file.name, fetched.bytes, &how, &Checksum::Ok)?;
    }
    Ok(Outcome::Done)
}

/// Reads all four files to their end and changes nothing.
fn check(place: &Place) -> Result<Outcome> {
    let found = place.glance(Need::Both)?;
    for (file, found) in FILES.iter().zip(found) {
        let digest = found.read(&mut std::io::sink()).map_err(|fault| found.refuse(&fault, place))?;
        let checksum = place.checksum(file, &digest);
        place.refuse_other(&found.path, &checksum)?;
        line(file.name, digest.length, "there", &checksum)?;
    }
    Ok(Outcome::Done)
}

fn line(name: &str, bytes: u64, how: &str, checksum: &Checksum) -> Result<()> {
    say(format_args!("{name:<23}  {bytes:>8} bytes  {how}, {checksum}"))
}
