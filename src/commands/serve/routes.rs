//! The page, and the HTTP interface: the list of endpoints, and what each answers.

use super::body;
use super::cors::{self, Origin};
use super::hosts::{Hosts, host_of};
use crate::digit::{self, Lines, Sign};
use crate::error::{either, sentence, without_panic};
use crate::memory;
use crate::page;
use crate::predict::{Place, Predictor};
use crate::run_folder;
use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use serde::Deserialize;
use serde_json::json;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// Pictures that are read at a time; a request beyond that is told to come again.
const REQUESTS: usize = 16;

/// The largest picture, in bytes.
const MAX_BYTES: usize = 32 << 20;

/// How long a picture may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// What a picture from a request is called in the JSON, as one on stdin is.
const FILE: &str = "-";

/// What all requests share.
#[derive(Clone)]
pub(super) struct App {
    predictor: Arc<Mutex<Predictor>>,
    page: Arc<str>,
    requests: Arc<Semaphore>,
}

/// An address that is answered.
pub(super) struct Endpoint {
    /// `GET /health`
    pub(super) name: &'static str,
    /// For `serve --help`.
    pub(super) help: &'static str,
    answer: fn() -> MethodRouter<App>,
}

/// Every endpoint. A new one is a function below and a line here.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint { name: "GET /", help: "the page", answer: || get(page) },
    Endpoint { name: "GET /health", help: "whether the server is up, as JSON", answer: || get(health) },
    Endpoint {
        name: "POST /predict",
        help: "a picture in, as bytes, a form, a data URL or base64 in JSON, and the JSON of `predict` out; ?details=true \
               adds what the net sees and the outputs of its blocks, ?one=true takes the whole picture as one \
               digit, ?page=N a page of a TIFF that has several",
        answer: || post(predict),
    },
];

impl Endpoint {
    fn path(&self) -> &'static str {
        self.name.split_once(' ').expect("a method and a path").1
    }
}

/// `?details=true&one=true&page=2`
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    details: bool,
    one: bool,
    page: Option<usize>,
}

/// An answer other than 200: its status, and one sentence.
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, axum::Json(json!({ "error": self.1 }))).into_response()
    }
}

impl App {
    /// `about` says which net it is.
    pub(super) fn new(predictor: Predictor, about: &str) -> Result<App> {
        let page = page::of_server(about)?.into();
        Ok(App { predictor: Arc::new(Mutex::new(predictor)), page, requests: Arc::new(Semaphore::new(REQUESTS)) })
    }

    /// The endpoints, for requests that ask for one of `hosts`, from pages of its own or of `origins`.
    pub(super) fn routes(self, hosts: Hosts, origins: Vec<Origin>) -> Router {
        let nothing_here = || async { Refusal(StatusCode::NOT_FOUND, "there is nothing at this address".into()) };
        let other_method = || async {
            let names: Vec<String> = ENDPOINTS.iter().map(|endpoint| endpoint.name.into()).collect();
            Refusal(StatusCode::METHOD_NOT_ALLOWED, format!("{} are answered", either(&names, "and")))
        };
        let add = |router: Router<App>, endpoint: &Endpoint| router.route(endpoint.path(), (endpoint.answer)());
        let routes = ENDPOINTS.iter().fold(Router::new(), add);
        let routes = routes.fallback(nothing_here).method_not_allowed_fallback(other_method);
        let routes = if origins.is_empty() { routes } else { routes.layer(cors::layer(origins.clone())) };
        routes
            .layer(middleware::from_fn_with_state(Arc::new(origins), same_site))
            .layer(middleware::from_fn_with_state(Arc::new(hosts), known_host))
            .with_state(self)
    }

    /// The JSON on a picture.
    fn answer(&self, bytes: &[u8], options: &Options) -> Result<String, Refusal> {
        let (lines, place) = without_panic(|| asked_page(bytes, options)).map_err(|error| {
            Refusal(StatusCode::BAD_REQUEST, format!("the picture cannot be read: {}", sentence(&error)))
        })?;
        without_panic(|| self.predict(lines, place, options.details))
            .map_err(|error| Refusal(StatusCode::INTERNAL_SERVER_ERROR, sentence(&memory::of_anything(error))))
    }

    /// One request at a time: the net is one.
    fn predict(&self, lines: Lines, place: Place, details: bool) -> Result<String> {
        // A request that panicked has left the net as it was.
        let predictor = self.predictor.lock().unwrap_or_else(PoisonError::into_inner);
        let reading = predictor.read(vec![lines])?.pop().context("a page has a reading")?;
        let object = match details {
            true => reading.detailed(FILE, place, &predictor).context("the net's outputs cannot be shown")?,
            false => reading.object(FILE, place),
        };
        run_folder::line("prediction", &object)
    }
}

/// What the page that is asked for shows, and which it is of how many, if the picture has several.
fn asked_page(bytes: &[u8], options: &Options) -> Result<(Lines, Place)> {
    let mut pages = digit::pages(bytes);
    let count = pages.len();
    let number = options.page.unwrap_or(1);
    let page = number.checked_sub(1).and_then(|k| pages.nth(k));
    let page = page.with_context(|| format!("there is no page {number}: the pages are 1 to {count}"))?;
    let lines = if options.one { vec![vec![Sign::Digit(digit::read(&page)?)]] } else { digit::read_all(&page)? };
    Ok((lines, Place { page: (count > 1).then_some((number, count)), index: None }))
}

/// Refuses requests that a page of another site makes, unless `--cors` names it: the server is for this machine's user.
async fn same_site(State(origins): State<Arc<Vec<Origin>>>, request: Request, next: Next) -> Response {
    let site = request.headers().get("sec-fetch-site").map(|site| site.as_bytes());
    let is_allowed = request.headers().get(header::ORIGIN).is_some_and(|origin| cors::are_allowed(&origins, origin));
    if site == Some(b"cross-site") && !is_allowed {
        let text = "pages of other sites are not answered: start the server with --cors ORIGIN";
        return Refusal(StatusCode::FORBIDDEN, text.into()).into_response();
    }
    next.run(request).await
}

/// Refuses requests for other hosts: a page of another site may let its own name point to this machine (DNS rebinding),
/// and would then count as the same site.
async fn known_host(State(hosts): State<Arc<Hosts>>, request: Request, next: Next) -> Response {
    let hosts_given = request.headers().get_all(header::HOST);
    let mut given = hosts_given.iter().map(|host| String::from_utf8_lossy(host.as_bytes()));
    let unknown = given.find(|host| !hosts.knows(host)).map(|host| host_of(&host).to_string());
    match unknown {
        Some(host) => {
            let text = format!("the host {host} is not answered for: start the server with --allow-host {host}");
            Refusal(StatusCode::FORBIDDEN, text).into_response()
        }
        None => next.run(request).await,
    }
}

async fn page(State(app): State<App>) -> Html<String> {
    Html(app.page.to_string())
}

async fn health(State(app): State<App>) -> Response {
    let free = app.requests.available_permits();
    axum::Json(json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION"), "free_requests": free })).into_response()
}

async fn predict(
    State(app): State<App>,
    options: Result<Query<Options>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let bad = |text: String| Refusal(StatusCode::BAD_REQUEST, text);
    let Ok(Query(options)) = options else {
        return Err(bad("only details and one can be given, each true or false, and page, a number".into()));
    };
    let Ok(permit) = app.requests.clone().try_acquire_owned() else {
        let text = format!("{REQUESTS} other pictures are being read: send it again in a moment");
        return Err(Refusal(StatusCode::SERVICE_UNAVAILABLE, text));
    };
    let bytes = match timeout(BODY_TIMEOUT, to_bytes(body, MAX_BYTES)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) if is_too_long(&error) => {
            let text = format!("the picture has more than {} MiB", MAX_BYTES >> 20);
            return Err(Refusal(StatusCode::PAYLOAD_TOO_LARGE, text));
        }
        Ok(Err(error)) => return Err(bad(format!("the picture did not arrive whole: {error}"))),
        Err(_) => {
            let text = format!("the picture did not arrive within {} s", BODY_TIMEOUT.as_secs());
            return Err(Refusal(StatusCode::REQUEST_TIMEOUT, text));
        }
    };
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let bytes = body::picture(content_type, bytes).await.map_err(|error| bad(sentence(&error)))?;
    let answered = spawn_blocking(move || {
        // Until the work is done, even if the client has gone.
        let _permit = permit;
        app.answer(&bytes, &options)
    });
    let failed = |error: tokio::task::JoinError| Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    let text = answered.await.map_err(failed)??;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

/// Whether a body was longer than it may be.
fn is_too_long(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
}
