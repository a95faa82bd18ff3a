//! `tch-mnist serve`: a page to draw digits on, and an HTTP interface to the net.

mod body;
mod cors;
mod hosts;
mod http;
mod routes;

use super::session::{OnlyFile, Prediction};
use super::{Outcome, Verbosity};
use crate::error::Expected;
use crate::observe::say;
use crate::settings::{KernelsChoice, within};
use anyhow::{Context, Result};
use cors::Origin;
use hosts::Hosts;
use routes::{App, ENDPOINTS};
use std::net::IpAddr;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Serve a page to draw digits on, and an HTTP interface to the net
#[derive(clap::Parser)]
#[command(name = "serve", after_help = help(), override_usage = "tch-mnist serve [OPTIONS] <WEIGHTS>")]
pub(super) struct Args {
    #[command(flatten)]
    file: OnlyFile,
    #[command(flatten)]
    prediction: Prediction,
    /// The address to listen on, or a name of this machine; 0.0.0.0 lets other machines in, and nothing asks them for a
    /// password
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", value_parser = host)]
    host: String,
    /// Also answer requests for this name, such as http://NAME:8000/, besides IP addresses and localhost
    #[arg(long, value_name = "NAME", value_parser = host)]
    allow_host: Vec<String>,
    /// Answer pages of this site too, such as https://example.org; *: of every site, null: files that a browser opens
    #[arg(long, value_name = "ORIGIN", value_parser = Origin::read)]
    cors: Vec<Origin>,
    /// The port; 0: any that is free
    #[arg(long, value_name = "N", default_value_t = 8000, value_parser = within("a port", 0..=u16::MAX))]
    port: u16,
}

/// The end of `serve --help`.
fn help() -> String {
    let lines: String = endpoints().map(|(name, help)| format!("  {name:<14} {help}\n")).collect();
    format!(
        "Endpoints:\n{lines}\nHere --kernels auto means torch, because the page shows the output of each block, and \
         --threads 0 means one thread. docs/digits.md has examples."
    )
}

/// The endpoints, each with its help.
pub(super) fn endpoints() -> impl Iterator<Item = (&'static str, &'static str)> {
    ENDPOINTS.iter().map(|endpoint| (endpoint.name, endpoint.help))
}

/// An IP address, or a name: letters, digits, dots and hyphens.
fn host(text: &str) -> Result<String, Expected> {
    let is_name = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
        && text.bytes().any(|byte| byte.is_ascii_alphabetic());
    match text.parse::<IpAddr>().is_ok() || is_name {
        true => Ok(text.into()),
        false => Err(Expected("an IP address or a name of this machine, such as 127.0.0.1 or localhost".into())),
    }
}

/// Runs the command.
pub(super) fn run(mut args: Args, _: Verbosity) -> Result<Outcome> {
    args.prediction.inference.file.take(args.file);
    let threads = args.prediction.threads();
    // The page shows the output of each block: the fused kernels have some blocks in one.
    let (predictor, about) = args.prediction.predictor(KernelsChoice::Torch)?;
    if threads == 0 {
        // One image is too little for several threads.
        tch::set_num_threads(1);
    }
    let app = App::new(predictor, &about)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        // So many pictures are decoded at a time, and no more: a large one takes hundreds of megabytes.
        .max_blocking_threads(std::thread::available_parallelism().map_or(1, usize::from))
        .enable_all()
        .build()
        .context("the server cannot start")?;
    let served = runtime.block_on(serve(args.host, args.port, args.allow_host, args.cors, app));
    runtime.shutdown_background();
    served.map(|()| Outcome::Done)
}

/// Serves until Ctrl-C or SIGTERM.
async fn serve(host: String, port: u16, mut names: Vec<String>, origins: Vec<Origin>, app: App) -> Result<()> {
    let listener = TcpListener::bind((&*host, port))
        .await
        .with_context(|| format!("cannot listen on {host}:{port}: choose another --port, or 0 for any free one"))?;
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() {
        tracing::warn!("other machines can reach {address}, and nothing asks them for a password");
    }
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    say(format!("serving on http://{address}/ (Ctrl-C ends it)"))?;
    let stopped = async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    names.push(host);
    http::serve(listener, app.routes(Hosts(names), origins), stopped).await;
    Ok(())
}
