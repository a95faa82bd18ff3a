//! Files that are taken for weights and are none, or of a format that is not read: each is named, with what to do.

use crate::archive::Archive;
use anyhow::Result;

/// The beginning of such a file, at its place, and what the file is.
const BEGINNINGS: [(usize, &[u8], &str); 9] = [
    (
        0,
        b"version https://git-lfs.github.com/spec/",
        "a pointer of git-lfs instead of the file: run git lfs pull, or download the file itself",
    ),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes .h5: save the arrays as .npz or .safetensors there"),
    (4, b"TFL3", "a TensorFlow Lite model: save the weights as .npz or .safetensors before its conversion"),
    (0, b"GGUF", "a GGUF file: name the .safetensors that it was made from"),
    (0, b"\x1f\x8b", "packed by gzip: unpack it first"),
    (257, b"ustar", "a tar archive: unpack it, and name the weights file in it"),
    (0, b"\x89PNG", "a picture"),
    (0, b"\xff\xd8\xff", "a picture"),
    (0, b"%PDF", "a PDF document"),
];

/// The beginnings of a page, in small letters.
const PAGES: [&[u8]; 2] = [b"<!doctype html", b"<html"];

const PAGE: &str = "a web page, not the file that it offers: download it by the link to the raw file; of a run's report, name \
    the run's folder";

/// The record by which a `.keras` archive is known.
const KERAS: &str = "model.weights.h5";

/// What `bytes` are, if they are known.
///
/// # Errors
///
/// If they are a damaged zip archive.
pub(crate) fn recognise(bytes: &[u8]) -> Result<Option<&'static str>> {
    let is_at = |(start, beginning, _): &&(usize, &[u8], &str)| {
        bytes.get(*start..).is_some_and(|bytes| bytes.starts_with(beginning))
    };
    if let Some((.., what)) = BEGINNINGS.iter().find(is_at) {
        return Ok(Some(what));
    }
    if bytes.starts_with(b"PK") {
        return Ok(Some(match Archive::flat(bytes)?.contains(KERAS) {
            true => "a .keras file: save the arrays as .npz or .safetensors there",
            false => "a zip archive, but not one of torch.save, torch.jit.save, torch.export.save or NumPy",
        }));
    }
    let text = bytes.trim_ascii_start();
    let is_page = |page: &[u8]| text.get(..page.len()).is_some_and(|start| start.eq_ignore_ascii_case(page));
    Ok(PAGES.iter().any(|page| is_page(page)).then_some(PAGE))
}

#[cfg(test)]
mod tests {
    use crate::read;

    #[test]
    fn what_is_no_weights_file_is_named() {
        for (bytes, expected) in [
            (&b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 52173\n"[..], "git lfs pull"),
            (b"\n<!DOCTYPE HTML><html></html>", "it is a web page"),
            (b"<HTML lang='en'>", "it is a web page"),
            (b"\x89HDF\r\n\x1a\n\0\0", "HDF5"),
            (b"\x1c\0\0\0TFL3", "TensorFlow Lite"),
            (b"\x1f\x8b\x08\0", "packed by gzip"),
            (
                b"weights = [0.1]",
                "it has none of the formats that are read: TorchScript module, state_dict, safetensors",
            ),
            (b"", "it is empty"),
        ] {
            let error = format!("{:#}", read(bytes).unwrap_err());
            assert!(error.contains(expected), "{expected:?} is not in {error}");
        }
    }
}
