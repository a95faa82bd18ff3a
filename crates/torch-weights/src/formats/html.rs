//! A page of HTML with a net in it: the weights are JSON in an element that no browser runs.

use crate::contents::Contents;
use crate::text::shown;
use crate::{Array, Dtype, Format, Room};
use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A page to draw digits on, which a net in it reads.
pub(crate) const FORMAT: Format = Format {
    title: "page to draw digits on",
    endings: &["html"],
    written_by: "`tch-mnist export`",
    purpose: "any browser, without a server or a network",
    opens_with: "webbrowser.open(file)",
    keeps: "the program in evaluation mode as JavaScript, the state_dict; classes, settings and accuracy as metadata",
    layers: true,
    batch_counts: true,
    metadata: Room::Header,
    recognises,
    read: |input| read(input.bytes).context("it is a page to draw digits on that is damaged or cut short"),
    write: None,
};

/// Where the weights begin and end in a page.
pub const BEGIN: &str = r#"<script type="application/json" id="weights">"#;
const END: &str = "</script>";

/// The last tag of a page.
const LAST: &str = "</html>";

/// The types of numbers that a net of this program has.
const TYPES: [Dtype; 2] = [Dtype::F32, Dtype::I64];

/// The weights as JSON.
#[derive(Serialize, Deserialize)]
struct File {
    metadata: BTreeMap<String, String>,
    tensors: Vec<Tensor>,
}

#[derive(Serialize, Deserialize)]
struct Tensor {
    key: String,
    /// PyTorch's name of the type.
    dtype: String,
    shape: Vec<usize>,
    /// The numbers, little-endian, in base64.
    data: String,
}

/// The text between [`BEGIN`] and the end of the element.
pub fn to_json(arrays: &[(String, Array)], metadata: &BTreeMap<String, String>) -> Result<String> {
    let tensor = |(key, array): &(String, Array)| {
        let data = BASE64_STANDARD.encode(array.bytes());
        Tensor { key: key.clone(), dtype: array.dtype().to_string(), shape: array.shape().to_vec(), data }
    };
    let file = File { metadata: metadata.clone(), tensors: arrays.iter().map(tensor).collect() };
    // No text ends the element: JSON has this character in its strings alone.
    Ok(serde_json::to_string(&file)?.replace('<', "\\u003c"))
}

fn recognises(bytes: &[u8]) -> bool {
    bytes.starts_with(b"<!DOCTYPE html>") && bytes.windows(BEGIN.len()).any(|part| part == BEGIN.as_bytes())
}

fn read(bytes: &[u8]) -> Result<Contents> {
    let text = str::from_utf8(bytes)?;
    let (_, rest) = text.split_once(BEGIN).context("it has no weights")?;
    let (json, _) = rest.split_once(END).context("its weights have no end")?;
    ensure!(text.trim_end().ends_with(LAST), "it does not end in {LAST}");
    let File { metadata, tensors } = serde_json::from_str(json)?;
    let array = |Tensor { key, dtype, shape, data }| {
        let read = || {
            let known = TYPES.into_iter().find(|known| known.to_string() == dtype);
            Array::new(known.context("its type is not read")?, shape, BASE64_STANDARD.decode(data)?)
        };
        let array = read().with_context(|| shown(&key))?;
        Ok((key, array))
    };
    let arrays = tensors.into_iter().map(array).collect::<Result<Vec<_>>>()?;
    Ok(Contents { metadata, ..Contents::of(arrays) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read;
    use proptest::prelude::*;

    fn page(metadata: &BTreeMap<String, String>) -> (Vec<(String, Array)>, String) {
        let floats = [1.5f32, -2.0].iter().flat_map(|number| number.to_le_bytes()).collect();
        let arrays = vec![
            ("fc.weight".to_string(), Array::new(Dtype::F32, vec![2, 1], floats).unwrap()),
            (
                "norm.num_batches_tracked".to_string(),
                Array::new(Dtype::I64, vec![], vec![7, 0, 0, 0, 0, 0, 0, 0]).unwrap(),
            ),
        ];
        let json = to_json(&arrays, metadata).unwrap();
        (
            arrays,
            format!("<!DOCTYPE html>\n<p>1 < 2</p>{BEGIN}{json}</script><script>const x = {{}};</script></html>\n"),
        )
    }

    #[test]
    fn the_weights_in_a_page_are_those_that_were_written() {
        let metadata = BTreeMap::from([("net".to_string(), "</script><script>alert(1)".to_string())]);
        let (arrays, page) = page(&metadata);
        assert_eq!(page.matches("</script>").count(), 2);
        let contents = read(page.as_bytes()).unwrap();
        assert_eq!(contents.metadata, metadata);
        let read: Vec<_> = contents.dicts[0].arrays().map(|(name, array)| (name.to_string(), array.clone())).collect();
        assert_eq!(read, arrays);
    }

    #[test]
    fn a_page_that_is_damaged_or_another_one_is_named() {
        let (_, page) = page(&BTreeMap::new());
        let damaged = "it is a page to draw digits on that is damaged or cut short: ";
        for (from, to, expected) in [
            ("float32", "float8", format!("{damaged}fc.weight: its type is not read")),
            ("[2,1]", "[3,1]", format!("{damaged}fc.weight: 8 bytes are not a tensor")),
            ("</script>", "", format!("{damaged}its weights have no end")),
            ("</html>", "", format!("{damaged}it does not end in </html>")),
            ("id=\"weights\"", "id=\"other\"", "it is a web page".into()),
        ] {
            let error = format!("{:#}", read(page.replace(from, to).as_bytes()).unwrap_err());
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_page_is_read_or_refused(position in 0usize..400, byte: u8, cut in 0usize..500) {
            let mut bytes = page(&BTreeMap::new()).1.into_bytes();
            let at = position % bytes.len();
            bytes[at] = byte;
            bytes.truncate(cut);
            let _ = read(&bytes);
        }
    }
}
