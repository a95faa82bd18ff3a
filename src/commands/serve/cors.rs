//! Pages of other sites: which may ask the server, and how their browsers are told.

use crate::error::Expected;
use axum::http::{HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// The site of a page, as a browser names it in the header Origin.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Origin(String);

impl Origin {
    /// Reads one from the command line.
    pub(super) fn read(text: &str) -> Result<Origin, Expected> {
        let text = text.to_lowercase();
        let host = ["http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let is_host = |host: &str| !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
        match text == "*" || text == "null" || host.is_some_and(is_host) {
            true => Ok(Origin(text)),
            false => Err(Expected("a site such as https://example.org, without a path, * or null".into())),
        }
    }
}

/// Whether a page from `origin` may ask.
pub(super) fn are_allowed(origins: &[Origin], origin: &HeaderValue) -> bool {
    origins.iter().any(|Origin(known)| known == "*" || known.as_bytes() == origin.as_bytes())
}

/// What answers the questions of browsers about `origins`, and tells them that a page may read an answer.
pub(super) fn layer(origins: Vec<Origin>) -> CorsLayer {
    let allowed = AllowOrigin::predicate(move |origin, _| are_allowed(&origins, origin));
    let methods = [Method::GET, Method::POST];
    CorsLayer::new().allow_origin(allowed).allow_methods(methods).allow_headers([header::CONTENT_TYPE])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_site_without_a_path() {
        for text in ["*", "null", "https://example.org", "http://localhost:3000", "HTTPS://Example.org"] {
            assert!(Origin::read(text).is_ok(), "{text}");
        }
        for text in ["", "example.org", "https://", "https://example.org/", "https://a b", "ftp://example.org"] {
            assert!(Origin::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_page_is_allowed_by_its_whole_origin() {
        let allowed = |origins: &[&str], origin: &str| {
            let origins: Vec<Origin> = origins.iter().map(|text| Origin::read(text).unwrap()).collect();
            are_allowed(&origins, &HeaderValue::from_str(origin).unwrap())
        };
        assert!(allowed(&["https://a.org", "https://example.org"], "https://example.org"));
        for origin in ["http://example.org", "https://example.org:444", "https://example.org.evil", "null"] {
            assert!(!allowed(&["https://example.org"], origin), "{origin}");
        }
        assert!(allowed(&["*"], "https://anywhere") && allowed(&["null"], "null") && !allowed(&[], "null"));
    }
}
