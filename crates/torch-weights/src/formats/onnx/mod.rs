//! ONNX: a graph of operators (<https://onnx.ai/onnx/operators/>) with its weights, in the file or in one beside it.

mod proto;

use crate::contents::{Contents, Dict, Entry};
use crate::text::shown;
use crate::{Format, Input, MAX_BYTES, Room};
use anyhow::{Context, Result, ensure};
use prost::Message;
use proto::Place;
pub use proto::{Attribute, Constant, Graph, Model, Node, OperatorSet, Property, Value};
use std::collections::HashMap;

/// A graph of operators with its weights.
pub(crate) const FORMAT: Format = Format {
    title: "ONNX model",
    endings: &["onnx"],
    written_by: "`torch.onnx.export`, its weights in the file or beside it; `tch-mnist export`",
    purpose: "ONNX Runtime and others",
    opens_with: "onnxruntime.InferenceSession(file)",
    keeps: "the program in evaluation mode, the weights; settings, accuracy and normalisation as metadata",
    layers: true,
    batch_counts: false,
    metadata: Room::Header,
    recognises,
    read,
    write: None,
};

/// The versions of the format that exist. TensorFlow's `saved_model.pb` begins as an ONNX file of version 1 would.
const VERSIONS: std::ops::RangeInclusive<u8> = 3..=20;

/// The first byte of the fields that may follow the version: producer, graph, operators.
const SECOND_FIELDS: [u8; 3] = [0x12, 0x3a, 0x42];

/// The path of the dict of the graph's own constants.
const CONSTANTS: &str = "constants";

/// What to do about a weight that is not in the file.
const HINT: &str = "an ONNX file has no BatchNorm that was merged into a convolution, so use the state_dict";

fn recognises(bytes: &[u8]) -> bool {
    // Field 1, the version, comes first in every model.
    matches!(bytes, [0x08, version, field, ..] if VERSIONS.contains(version) && SECOND_FIELDS.contains(field))
}

fn read(input: &Input) -> Result<Contents> {
    let damaged = "it is an ONNX model that is damaged or cut short";
    let model = Model::decode(input.bytes).context(damaged)?;
    // These follow the graph, which is almost all of a file.
    ensure!(!model.opset_import.is_empty(), damaged);
    let initializers = model.graph.context(damaged)?.initializer;
    let mut beside = Beside { input, files: HashMap::new(), left: 2 * MAX_BYTES };
    let mut arrays = Vec::new();
    for constant in initializers {
        let numbers = beside.numbers(&constant)?;
        let entry = Entry::from(constant.array(numbers));
        arrays.push((constant.name, entry));
    }
    let metadata = model.metadata_props.into_iter().map(|property| (property.key, property.value)).collect();
    Ok(Contents { dicts: dicts(arrays), metadata, hint: Some(HINT.into()), ..Contents::default() })
}

/// The weights, and the constants of the graph: shapes, axes and limits. PyTorch names a module's tensor with a dot, and
/// a constant without.
fn dicts(arrays: Vec<(String, Entry)>) -> Vec<Dict> {
    let (weights, constants): (Vec<_>, Vec<_>) = arrays.into_iter().partition(|(name, _)| name.contains('.'));
    match (weights.is_empty(), constants.is_empty()) {
        (true, _) => vec![Dict::new(String::new(), constants)],
        (false, true) => vec![Dict::new(String::new(), weights)],
        (false, false) => vec![Dict::new(String::new(), weights), Dict::new(CONSTANTS.into(), constants)],
    }
}

/// The files beside a model that have its numbers.
struct Beside<'a> {
    input: &'a Input<'a>,
    files: HashMap<String, Vec<u8>>,
    /// The bytes that tensors may still take: many may be the same part of a file.
    left: u64,
}

impl Beside<'_> {
    /// The numbers of `constant` if they are in another file.
    fn numbers(&mut self, constant: &Constant) -> Result<Option<Vec<u8>>> {
        let Some(Place { location, offset, length }) = constant.external()? else { return Ok(None) };
        if !self.files.contains_key(location) {
            self.files.insert(location.to_string(), self.input.beside(location, MAX_BYTES)?);
        }
        let rest = self.files[location].get(offset..);
        let numbers = rest.and_then(|rest| rest.get(..length.unwrap_or(rest.len())));
        let numbers = numbers.with_context(|| format!("the file {} beside it is cut short", shown(location)))?;
        self.left = self.left.checked_sub(numbers.len() as u64).context("its tensors take more than 512 MiB")?;
        Ok(Some(numbers.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Array, Dtype, read};
    use proptest::prelude::*;

    /// A model as `torch.onnx.export` writes it, with these initializers.
    fn model(initializer: Vec<Constant>) -> Model {
        let graph = Graph { name: "main_graph".into(), initializer, ..Graph::default() };
        Model {
            ir_version: 10,
            producer_name: "pytorch".into(),
            producer_version: "2.11.0".into(),
            graph: Some(graph),
            opset_import: vec![OperatorSet { domain: String::new(), version: 20 }],
            metadata_props: Vec::new(),
        }
    }

    fn floats(name: &str, numbers: &[f32]) -> Constant {
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        Constant::of(name, &Array::new(Dtype::F32, vec![numbers.len()], bytes).unwrap())
    }

    fn external(name: &str, size: i64, entries: &[(&str, &str)]) -> Constant {
        let property = |(key, value): &(&str, &str)| Property { key: key.to_string(), value: value.to_string() };
        Constant {
            dims: vec![size],
            data_type: 1,
            name: name.into(),
            external_data: entries.iter().map(property).collect(),
            data_location: 1,
            ..Constant::default()
        }
    }

    #[test]
    fn constants_of_the_graph_are_kept_apart_from_the_weights() {
        let shape = Constant::of("val_83", &Array::new(Dtype::I64, vec![1], 10i64.to_le_bytes().to_vec()).unwrap());
        let limit = floats("max_val_cast", &[6.0]);
        let file = model(vec![floats("0.weight", &[1.0, 2.0]), shape, limit]).to_bytes();
        let contents = read(&file).unwrap();
        let names = |dict: &Dict| dict.entries().map(|(name, _)| name.to_string()).collect::<Vec<_>>();
        assert_eq!(contents.dicts.iter().map(Dict::path).collect::<Vec<_>>(), ["", "constants"]);
        assert_eq!(names(&contents.dicts[0]), ["0.weight"]);
        assert_eq!(names(&contents.dicts[1]), ["val_83", "max_val_cast"]);
        // Other exporters have names without dots alone.
        let contents = read(&model(vec![floats("w", &[1.0])]).to_bytes()).unwrap();
        assert_eq!((contents.dicts.len(), names(&contents.dicts[0])), (1, vec!["w".to_string()]));
    }

    #[test]
    fn numbers_are_read_from_the_file_beside_the_model() {
        let folder = tempfile::tempdir().unwrap();
        let place = [("location", "model.onnx.data"), ("offset", "4"), ("length", "8")];
        let initializers =
            vec![external("0.weight", 2, &place), external("0.bias", 3, &[("location", "model.onnx.data")])];
        let file = folder.path().join("model.onnx");
        std::fs::write(&file, model(initializers).to_bytes()).unwrap();
        let error = format!("{:#}", crate::open(&file).unwrap_err());
        assert!(error.contains("the file model.onnx.data beside it: No such file"), "{error}");
        let data: Vec<u8> = [1f32, 2., 3.].iter().flat_map(|number| number.to_le_bytes()).collect();
        std::fs::write(folder.path().join("model.onnx.data"), &data).unwrap();
        let contents = crate::open(&file).unwrap();
        let numbers: Vec<_> = contents.dicts[0].arrays().map(|(_, array)| array.to_f32().unwrap()).collect();
        assert_eq!(numbers, [vec![2., 3.], vec![1., 2., 3.]]);
        std::fs::write(folder.path().join("model.onnx.data"), &data[..10]).unwrap();
        let error = format!("{:#}", crate::open(&file).unwrap_err());
        assert!(error.contains("the file model.onnx.data beside it is cut short"), "{error}");
        // Bytes alone have no file beside them.
        let error = read(&std::fs::read(&file).unwrap()).unwrap_err().to_string();
        assert_eq!(error, "it needs the file model.onnx.data beside it");
    }

    #[test]
    fn places_that_make_no_sense_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("data"), [0; 8]).unwrap();
        for (place, expected) in [
            (vec![("location", "../data")], "it names ../data, which is not in its folder"),
            (vec![("offset", "0")], "0.weight is in a file that is not named"),
            (vec![("location", "data"), ("offset", "-4")], "0.weight is at a place that is no number: -4"),
            (vec![("location", "data"), ("offset", "9")], "the file data beside it is cut short"),
            (vec![("location", "data"), ("length", "18446744073709551615")], "the file data beside it is cut short"),
        ] {
            let file = folder.path().join("model.onnx");
            std::fs::write(&file, model(vec![external("0.weight", 2, &place)]).to_bytes()).unwrap();
            let error = format!("{:#}", crate::open(&file).unwrap_err());
            assert!(error.contains(expected), "{expected:?} is not in {error}");
        }
    }

    #[test]
    fn numbers_that_other_tools_write_one_by_one_are_read() {
        let numbers = Constant {
            dims: vec![2],
            data_type: 1,
            name: "w".into(),
            float_data: vec![1.5, 2.5],
            ..Constant::default()
        };
        let counts =
            Constant { dims: vec![2], data_type: 7, name: "n".into(), int64_data: vec![3, -1], ..Constant::default() };
        let contents = read(&model(vec![numbers, counts]).to_bytes()).unwrap();
        let arrays: Vec<_> = contents.dicts[0].arrays().collect();
        assert_eq!(arrays[0].1.to_f32().unwrap(), [1.5, 2.5]);
        assert_eq!(arrays[1].1.bytes(), [3i64.to_le_bytes(), (-1i64).to_le_bytes()].concat());
    }

    #[test]
    fn a_model_that_is_cut_short_is_named() {
        let file = model(vec![floats("0.weight", &[1.0; 100])]).to_bytes();
        for length in 3..file.len() {
            let error = format!("{:#}", read(&file[..length]).unwrap_err());
            assert!(error.starts_with("it is an ONNX model that is damaged or cut short"), "{length}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&[&[0x08, 10, 0x3a][..], &bytes].concat());
        }
    }
}
