//! Downloads: each file from the first mirror that serves the published bytes.

use super::datasets::Checksum;
use super::folder::{Found, Need, Place};
use super::idx::{self, FILES, Fault, IdxFile};
use super::sources;
use super::{DEFAULT_FOLDER, Dataset};
use anyhow::{Context, Result, anyhow, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};

/// How long a mirror has to accept a connection, TLS included.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a mirror may send nothing: the default of `--timeout`.
pub(crate) const STALL_TIMEOUT: Duration = Duration::from_secs(20);

/// Downloads the needed files that are missing, if the folder is for them: see [`check_target`]. Existing files belong to
/// the user: an invalid one is an error and is not replaced, and a valid one is left alone.
pub(crate) fn ensure(folder: &Path, dataset: Dataset, need: Need, progress: bool) -> Result<()> {
    let place = Place::new(folder, dataset);
    let mut missing = Vec::new();
    for index in need.files() {
        match Found::find(&place.folder, &FILES[index]) {
            Some(found) => drop(found.glance().map_err(|fault| found.refuse(&fault, &place))?),
            None => missing.push(index),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    // Data in another form, and data that were imported, are not downloaded.
    if place.is_own() {
        return place.glance(need).map(drop);
    }
    check_target(&place)?;
    let mut fetcher = Fetcher::new(&place, &[], STALL_TIMEOUT, progress)?;
    missing.into_iter().try_for_each(|index| fetcher.fetch(index).map(drop))
}

/// Refuses to fill a folder that nobody asked to fill: any but the default folder, an empty one, and one that is named
/// after the dataset or holds published files of it.
fn check_target(place: &Place) -> Result<()> {
    let Place { given, dataset, folder, .. } = place;
    let path = given.display();
    for found in FILES.iter().filter_map(|file| Found::find(folder, file)) {
        let digest = found.read(&mut std::io::sink()).map_err(|fault| found.refuse(&fault, place))?;
        let checksum = place.checksum(&found.file, &digest);
        place.refuse_other(&found.path, &checksum)?;
        ensure!(
            checksum.is_good(),
            "--data {path} holds files that are not the published ones of {dataset}, and others are missing: add yours (with the \
             training files alone, train with --validation N), or run `{}`",
            place.download_command()
        );
    }
    let is_default = std::path::absolute(given).ok() == std::path::absolute(DEFAULT_FOLDER).ok();
    let is_empty = || std::fs::read_dir(given).is_ok_and(|mut entries| entries.next().is_none());
    let is_named_after_it = folder != given && folder.is_dir();
    let holds_some = || FILES.iter().any(|file| Found::find(folder, file).is_some());
    if is_default || is_named_after_it || holds_some() || is_empty() {
        return Ok(());
    }
    ensure!(
        given.exists(),
        "--data {path} does not exist: name the folder with the data, or run `{}`",
        place.download_command()
    );
    bail!(
        "--data {path} holds no files of {dataset}: {}; to download them there, run `{}`",
        sources::advice(given),
        place.download_command()
    )
}

/// Downloads the files of one dataset.
pub(crate) struct Fetcher<'a> {
    place: &'a Place<'a>,
    /// The folders that were made for the files, the innermost first.
    made: Vec<PathBuf>,
    agent: Agent,
    /// Addresses that end in `/`. The one that served the last file comes first.
    mirrors: Vec<String>,
    stall_timeout: Duration,
    progress: bool,
}

/// A file that was downloaded.
pub(crate) struct Fetched {
    /// The mirror that served it.
    pub mirror: String,
    /// Its length in bytes, unpacked.
    pub bytes: u64,
}

impl<'a> Fetcher<'a> {
    /// `mirrors` replaces the dataset's own list unless it is empty. With `progress`, a bar for each file is shown on
    /// stderr.
    pub(crate) fn new(place: &'a Place, mirrors: &[String], stall_timeout: Duration, progress: bool) -> Result<Self> {
        let folder = place.folder.display();
        let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
        let made = place.folder.ancestors().take_while(is_missing).map(Path::to_path_buf).collect();
        std::fs::create_dir_all(&place.folder).with_context(|| format!("the folder {folder} cannot be made"))?;
        let agent = Agent::config_builder()
            .user_agent(concat!("tch-mnist/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_per_read(Some(stall_timeout))
            .timeout_per_write(Some(stall_timeout))
            // What the system trusts, `SSL_CERT_FILE` included. `HTTPS_PROXY` and `NO_PROXY` are ureq's default.
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .build()
            .into();
        let mirrors = match mirrors {
            [] => place.dataset.facts().mirrors.iter().map(|mirror| mirror.to_string()).collect(),
            given => given.iter().map(|mirror| format!("{}/", mirror.trim_end_matches('/'))).collect(),
        };
        Ok(Self { place, made, agent, mirrors, stall_timeout, progress })
    }

    /// Downloads `FILES[index]` from the first mirror that serves the published bytes, and replaces the existing file.
    pub(crate) fn fetch(&mut self, index: usize) -> Result<Fetched> {
        let file = FILES[index];
        let path = self.place.folder.join(file.name);
        let mut reasons = Vec::new();
        for number in 0..self.mirrors.len() {
            let mirror = self.mirrors[number].clone();
            let mut failure = None;
            let mut bytes = 0;
            let written = crate::files::write_atomically(&path, |temporary| {
                let mut output = BufWriter::new(File::create(temporary)?);
                match self.receive(&mirror, index, &mut output) {
                    Ok(length) => bytes = length,
                    Err(Failure::Here(error)) => return Err(error.into()),
                    Err(Failure::There(reason)) => {
                        failure = Some(reason);
                        bail!("not the published file");
                    }
                }
                Ok(output.flush()?)
            });
            match failure {
                Some(reason) => {
                    tracing::warn!("{mirror}{}.gz: {reason}", file.name);
                    reasons.push(format!("{mirror} ({reason}{})", self.through_proxy(&mirror)));
                }
                None => {
                    written?;
                    tracing::info!("fetched {} from {mirror}", path.display());
                    self.mirrors[..=number].rotate_right(1);
                    return Ok(Fetched { mirror, bytes });
                }
            }
        }
        Err(self.give_up(&file, &reasons))
    }

    /// Receives one file from one mirror into `output` and returns its unpacked length.
    fn receive(&self, mirror: &str, index: usize, output: &mut impl Write) -> Result<u64, Failure> {
        let file = FILES[index];
        let url = format!("{mirror}{}.gz", file.name);
        let there = |error: ureq::Error| Failure::There(self.describe(&error));
        let body = self.agent.get(&url).call().map_err(there)?.into_body();
        let bar = self.bar(&file, body.content_length());
        let input = bar.wrap_read(body.into_reader());
        let result = idx::unpack_checked(input, file.content, output);
        bar.finish_and_clear();
        let digest = result.map_err(|fault| match fault {
            Fault::Write(error) => Failure::Here(error),
            Fault::Content(reason) => Failure::There(format!("the file {reason}")),
            Fault::Read(error) => Failure::There(self.describe(&ureq::Error::from(error))),
        })?;
        match self.place.dataset.compare(&file, &digest) {
            Checksum::Ok => Ok(digest.length),
            Checksum::Of(other) => Err(Failure::There(format!("serves the file of {other}"))),
            _ => Err(Failure::There("the SHA-256 is not the published one".into())),
        }
    }

    /// A bar on stderr, or one that draws nothing.
    fn bar(&self, file: &IdxFile, length: Option<u64>) -> ProgressBar {
        if !self.progress {
            return ProgressBar::hidden();
        }
        let template = match length {
            Some(_) => "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            None => "{msg} {bytes} {bytes_per_sec}",
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = length.map_or_else(ProgressBar::no_length, ProgressBar::new);
        bar.with_style(style.progress_chars("##-")).with_message(file.name)
    }

    /// What a mirror did wrong.
    fn describe(&self, error: &ureq::Error) -> String {
        match error {
            ureq::Error::StatusCode(404) => "does not have it: HTTP status 404".into(),
            ureq::Error::StatusCode(status) => format!("HTTP status {status}"),
            ureq::Error::HostNotFound => "no such host".into(),
            ureq::Error::Timeout(ureq::Timeout::PerRead | ureq::Timeout::PerWrite) => {
                format!("sent nothing for {} s", self.stall_timeout.as_secs_f64())
            }
            ureq::Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect) => {
                format!("no connection within {} s", CONNECT_TIMEOUT.as_secs())
            }
            error if error.to_string().contains("certificate") => format!(
                "{error}: if you trust this server, add its issuer to the system's certificates, or name a file with the issuer's \
                 certificate in SSL_CERT_FILE"
            ),
            ureq::Error::Io(error) => error.to_string(),
            error => error.to_string(),
        }
    }

    /// ` through the proxy HOST:PORT`, if one is asked for files from `mirror`.
    fn through_proxy(&self, mirror: &str) -> String {
        let proxy = self
            .agent
            .config()
            .proxy()
            .filter(|proxy| mirror.parse().is_ok_and(|mirror: ureq::http::Uri| !proxy.is_no_proxy(&mirror)));
        // Not its whole address, which may have a password.
        proxy.map_or(String::new(), |proxy| format!(", through the proxy {}:{}", proxy.host(), proxy.port()))
    }

    fn give_up(&self, file: &IdxFile, reasons: &[String]) -> anyhow::Error {
        // One that holds a file is left alone: removing it fails.
        let _ = self.made.iter().try_for_each(std::fs::remove_dir);
        let dataset = self.place.dataset;
        let other_source = match dataset.facts().setup_has_a_package {
            true => "run scripts/setup, which has another source for them, or ",
            false => "",
        };
        anyhow!(
            "{} of {dataset} could not be fetched from {}; {other_source}put the four files, gzipped or not, into {} by \
             hand, or name another source: `{} --mirror URL`",
            file.name,
            reasons.join(" or "),
            self.place.folder.display(),
            self.place.download_command()
        )
    }
}

/// Why a file was not received.
enum Failure {
    /// It cannot be written: no other mirror will help.
    Here(std::io::Error),
    /// The mirror did not serve it.
    There(String),
}
