//! `tch-mnist serve`: a page to draw digits on, and an HTTP interface to the net.

mod http;
mod routes;

use super::session::Prediction;
use super::{Outcome, Verbosity};
use crate::observe::{log, say};
use crate::settings::{KernelsChoice, any, within};
use anyhow::{Context, Result};
use routes::App;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// The flags of `serve`.
#[derive(clap::Args)]
#[command(
    after_help = "The page is at /. POST /predict takes the bytes of a picture and returns the JSON of `predict`; with \
    ?details=true also what the net sees and the outputs of its blocks, with ?one=true the whole picture as one digit. \
    GET /health says whether it is up. Here --kernels auto means torch, because the page \
    shows the output of each block, and --threads 0 means one thread. docs/digits.md has examples."
)]
pub(super) struct Args {
    #[command(flatten)]
    prediction: Prediction,
    /// The address to listen on; 0.0.0.0 lets other machines in, and nothing asks them for a password
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), value_parser = any::<IpAddr>("an IP address, such as 127.0.0.1"))]
    host: IpAddr,
    /// The port; 0: any that is free
    #[arg(long, value_name = "N", default_value_t = 8000, value_parser = within("a port", 0..=u16::MAX))]
    port: u16,
}

/// Runs the command.
pub(super) fn run(mut args: Args, verbosity: Verbosity) -> Result<Outcome> {
    log::init(verbosity.level());
    let threads = args.prediction.threads();
    // The page shows the output of each block: the fused kernels have some blocks in one.
    let predictor = args.prediction.predictor(KernelsChoice::Torch)?;
    if threads == 0 {
        // One image is too little for several threads.
        tch::set_num_threads(1);
    }
    let app = App::new(predictor);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        // So many pictures are decoded at a time, and no more: a large one takes hundreds of megabytes.
        .max_blocking_threads(std::thread::available_parallelism().map_or(1, usize::from))
        .enable_all()
        .build()
        .context("the server cannot start")?;
    let served = runtime.block_on(serve(SocketAddr::new(args.host, args.port), app));
    runtime.shutdown_background();
    served.map(|()| Outcome::Done)
}

/// Serves until Ctrl-C or SIGTERM.
async fn serve(address: SocketAddr, app: App) -> Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}: choose another --port, or 0 for any free one"))?;
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
    http::serve(listener, app.routes(), stopped).await;
    Ok(())
}
