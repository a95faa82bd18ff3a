//! The picture in the body of a request: its bytes alone, a form with a file, a data URL, or base64 in JSON.

use anyhow::{Context, Result, anyhow, bail, ensure};
use axum::body::Bytes;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

/// Base64 with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// `{"image": "iVBORw0KGgo="}`, or a data URL in the same place.
#[derive(Deserialize)]
struct Json {
    image: String,
}

/// The picture in a body of this content type. No picture begins as JSON or as a data URL does, so both are known without
/// their type: curl sends `-d` as a form.
///
/// # Errors
///
/// One sentence if the body is a form, JSON or a data URL without a picture.
pub(super) async fn picture(content_type: Option<&str>, body: Bytes) -> Result<Bytes> {
    let boundary = content_type.map(multer::parse_boundary).and_then(Result::ok);
    if let Some(boundary) = boundary {
        return file_of_form(body, boundary).await;
    }
    let start = body.trim_ascii_start();
    if start.starts_with(b"{") {
        let json: Json = serde_json::from_slice(&body)
            .map_err(|error| anyhow!("write {{\"image\": \"...\"}} with base64 or a data URL in it: {error}"))?;
        return encoded(&json.image);
    }
    if start.starts_with(b"data:") {
        return encoded(str::from_utf8(&body).context("the data URL is not text")?);
    }
    Ok(body)
}

/// The first file of a form; of a form without one, its first field that is not empty.
async fn file_of_form(body: Bytes, boundary: String) -> Result<Bytes> {
    let parts = futures_util::stream::once(async { Ok::<_, std::convert::Infallible>(body) });
    let mut form = multer::Multipart::new(parts, boundary);
    let mut first = None;
    while let Some(field) = form.next_field().await.context("the form is damaged")? {
        let is_file = field.file_name().is_some();
        let bytes = field.bytes().await.context("the form is damaged")?;
        if is_file {
            return Ok(bytes);
        }
        first = first.or(Some(bytes).filter(|bytes| !bytes.is_empty()));
    }
    first.context("the form has no file")
}

/// The bytes of base64 or of a data URL.
fn encoded(text: &str) -> Result<Bytes> {
    let data = match text.trim().strip_prefix("data:") {
        None => text,
        Some(url) => {
            let (kind, data) = url.split_once(',').context("the data URL has no comma")?;
            ensure!(kind.ends_with(";base64"), "the data URL is not in base64");
            data
        }
    };
    let digits: String = data.split_ascii_whitespace().collect();
    if digits.is_empty() {
        bail!("there is no base64");
    }
    Ok(BASE64.decode(digits).context("the base64 is damaged")?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PICTURE: &[u8] = b"\x89PNG\r\n\x1a\n and so on\n";

    fn read(content_type: Option<&str>, body: impl Into<Vec<u8>>) -> Result<Bytes> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(picture(content_type, body.into().into()))
    }

    fn form(fields: &[(&str, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (disposition, value) in fields {
            body.extend(format!("--XyZ\r\nContent-Disposition: form-data; {disposition}\r\n\r\n").into_bytes());
            body.extend([value, &b"\r\n"[..]].concat());
        }
        [body, b"--XyZ--\r\n".to_vec()].concat()
    }

    #[test]
    fn a_picture_is_the_same_however_it_is_sent() {
        let base64 = BASE64.encode(PICTURE);
        let file = form(&[("name=\"one\"", b"true"), ("name=\"a\"; filename=\"seven.png\"", PICTURE)]);
        let field = form(&[("name=\"image\"", PICTURE)]);
        for (content_type, body) in [
            (None, PICTURE.to_vec()),
            (Some("image/png"), PICTURE.to_vec()),
            (Some("application/x-www-form-urlencoded"), PICTURE.to_vec()),
            (Some("multipart/form-data; boundary=XyZ"), file),
            (Some("multipart/form-data; boundary=\"XyZ\""), field),
            (Some("application/json"), format!("{{\"image\": \"{base64}\"}}").into_bytes()),
            (None, format!(" {{\"image\": \"data:image/png;base64,{base64}\", \"id\": 3}}").into_bytes()),
            (Some("text/plain"), format!("data:image/png;base64,{base64}\n").into_bytes()),
            (None, format!("data:;base64,{}", base64.trim_end_matches('=')).into_bytes()),
        ] {
            let read = read(content_type, body.clone()).unwrap();
            assert_eq!(read, PICTURE, "{content_type:?} {}", String::from_utf8_lossy(&body));
        }
    }

    #[test]
    fn a_body_without_a_picture_is_one_sentence() {
        let form = |fields: &[(&str, &[u8])]| (Some("multipart/form-data; boundary=XyZ"), form(fields));
        for ((content_type, body), sentence) in [
            (form(&[]), "the form has no file"),
            (form(&[("name=\"a\"", b"")]), "the form has no file"),
            ((Some("multipart/form-data; boundary=XyZ"), b"--XyZ\r\nhalf".to_vec()), "the form is damaged"),
            ((None, b"{\"picture\": 1}".to_vec()), "write {\"image\": \"...\"} with base64 or a data URL in it"),
            ((None, b"{\"image\": \"?\"}".to_vec()), "the base64 is damaged"),
            ((None, b"{\"image\": \"\"}".to_vec()), "there is no base64"),
            ((None, b"data:image/png,xyz".to_vec()), "the data URL is not in base64"),
            ((None, b"data:image/png;base64".to_vec()), "the data URL has no comma"),
            ((None, b"data:image/png;base64,\xff".to_vec()), "the data URL is not text"),
        ] {
            let error = read(content_type, body).unwrap_err().to_string();
            assert!(error.starts_with(sentence), "{error}");
        }
    }
}
