//! `.pt2`: what `torch.export.save` writes, a program of ATen operators with its weights beside it.
//!
//! A zip archive with the program as JSON, `models/model.json`, and each tensor as raw bytes. `torch/_export/serde/schema.py` defines the
//! JSON, `torch/export/pt2_archive/constants.py` the names of the records. The program is generated from the list of layers.

use super::archive::{Archive, with_extra};
use super::format::{Contents, Dict, Entry, Format, Weights};
use super::torch_save::TorchSave;
use super::{MAX_BYTES, raw, tensor};
use crate::model::{Layer, StateDict, blocks};
use crate::shape::{CLASSES, SIDE};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use tch::{Kind, Tensor};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

/// The record by which torch knows such an archive, and the folder of the records when one is written.
const MARKER: &str = "archive_format";
const FOLDER: &str = "model/";

/// The weights: a list by key, and the folder with their bytes.
const CONFIG: &str = "data/weights/model_weights_config.json";
const WEIGHTS: &str = "data/weights/";

/// The weights in files of `torch.export.save` before PyTorch 2.8: a file of `torch.save` in the archive.
const OLD_WEIGHTS: &str = "serialized_state_dict.pt";

/// The largest list of weights that is read, in bytes.
const MAX_CONFIG: u64 = 1 << 20;

/// `ScalarType` in `schema.py`.
const TYPES: [(Kind, i64); 10] = [
    (Kind::Uint8, 1),
    (Kind::Int8, 2),
    (Kind::Int16, 3),
    (Kind::Int, 4),
    (Kind::Int64, 5),
    (Kind::Half, 6),
    (Kind::Float, 7),
    (Kind::Double, 8),
    (Kind::Bool, 12),
    (Kind::BFloat16, 13),
];

/// The net in evaluation mode, for `torch.export.load(FILE).module()`.
pub(super) struct Pt2;

impl Format for Pt2 {
    fn name(&self) -> &'static str {
        "exported program"
    }

    fn endings(&self) -> &'static [&'static str] {
        &["pt2"]
    }

    fn recognises(&self, bytes: &[u8]) -> bool {
        Archive::has(bytes, MARKER) || Archive::has(bytes, OLD_WEIGHTS)
    }

    fn read(&self, bytes: &[u8]) -> Result<Contents> {
        if Archive::has(bytes, OLD_WEIGHTS) {
            return TorchSave.read(&Archive::open(bytes, OLD_WEIGHTS)?.record(OLD_WEIGHTS, MAX_BYTES)?);
        }
        let mut archive = Archive::open(bytes, MARKER)?;
        let config: Config =
            serde_json::from_slice(&archive.record(CONFIG, MAX_CONFIG)?).context("its list of weights")?;
        let (mut entries, mut left) = (Vec::new(), MAX_BYTES);
        for (key, weight) in config.config {
            let bytes = archive.record(&format!("{WEIGHTS}{}", weight.path_name), left)?;
            left -= bytes.len() as u64;
            let entry = match weight.tensor(&bytes) {
                Ok(tensor) => Entry::Tensor(tensor),
                Err(error) => Entry::Unreadable(format!("{error:#}")),
            };
            entries.push((key, entry));
        }
        let metadata = archive.extra()?;
        Ok(Contents { dicts: vec![Dict { path: String::new(), entries }], metadata, ..Contents::default() })
    }

    fn write(&self, weights: &Weights) -> Result<Vec<u8>> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        // Without a time: the bytes depend only on the weights.
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        let options = options.last_modified_time(DateTime::default());
        let mut record = |name: &str, bytes: &[u8]| -> Result<()> {
            zip.start_file(format!("{FOLDER}{name}"), options)?;
            Ok(zip.write_all(bytes)?)
        };
        let mut config = serde_json::Map::new();
        for (index, (key, tensor)) in weights.state_dict.0.iter().enumerate() {
            let name = format!("weight_{index}");
            record(&format!("{WEIGHTS}{name}"), &raw(tensor)?)?;
            let meta = meta(tensor.kind(), &sizes(&tensor.size()), &tensor.size(), is_parameter(key))?;
            let weight =
                json!({"path_name": name, "is_param": is_parameter(key), "use_pickle": false, "tensor_meta": meta});
            config.insert(key.clone(), weight);
        }
        record(CONFIG, json!({"config": config}).to_string().as_bytes())?;
        record("data/constants/model_constants_config.json", json!({"config": {}}).to_string().as_bytes())?;
        record("models/model.json", program(weights)?.to_string().as_bytes())?;
        // An example of the input is not needed, but the record is.
        record("data/sample_inputs/model.pt", b"")?;
        record(MARKER, b"pt2")?;
        record("archive_version", b"0")?;
        record("byteorder", b"little")?;
        record(".data/version", b"6\n")?;
        with_extra(zip.finish()?.into_inner(), MARKER, &weights.metadata)
    }
}

/// The list of weights.
#[derive(Deserialize)]
struct Config {
    config: BTreeMap<String, Weight>,
}

#[derive(Deserialize)]
struct Weight {
    path_name: String,
    #[serde(default)]
    use_pickle: bool,
    tensor_meta: Meta,
}

#[derive(Deserialize)]
struct Meta {
    dtype: i64,
    sizes: Vec<Size>,
    strides: Vec<Size>,
    storage_offset: Size,
}

#[derive(Deserialize)]
struct Size {
    as_int: i64,
}

impl Weight {
    /// The tensor whose storage is `bytes`.
    fn tensor(&self, bytes: &[u8]) -> Result<Tensor> {
        let Meta { dtype, sizes, strides, storage_offset } = &self.tensor_meta;
        ensure!(!self.use_pickle, "it is pickled");
        let found = TYPES.iter().find(|(_, number)| number == dtype);
        let kind = found.with_context(|| format!("its numbers have a type ({dtype}) that is not read"))?.0;
        let size: Vec<i64> = sizes.iter().map(|size| size.as_int).collect();
        ensure!(size.len() <= 8, "it has {} dimensions", size.len());
        let strides: Vec<i64> = strides.iter().map(|stride| stride.as_int).collect();
        ensure!(strides == contiguous(&size) && storage_offset.as_int == 0, "it is a view, which is not read");
        tensor(bytes, &size, kind)
    }
}

/// The strides of a contiguous tensor.
fn contiguous(size: &[i64]) -> Vec<i64> {
    let mut strides = vec![1i64; size.len()];
    for index in (1..size.len()).rev() {
        strides[index - 1] = strides[index].saturating_mul(size[index].max(1));
    }
    strides
}

/// Buffers of BatchNorm, in contrast to what is trained.
fn is_parameter(key: &str) -> bool {
    key.ends_with("weight") || key.ends_with("bias")
}

/// Parameters first, then buffers, each in the order of the state_dict.
fn sorted(weights: &StateDict) -> Vec<&(String, Tensor)> {
    let (parameters, buffers): (Vec<_>, Vec<_>) = weights.0.iter().partition(|(key, _)| is_parameter(key));
    [parameters, buffers].concat()
}

/// The name of a weight in the program: `p_convblock1_0_weight`, or `b_...` for a buffer.
fn argument(key: &str) -> String {
    format!("{}_{}", if is_parameter(key) { "p" } else { "b" }, key.replace('.', "_"))
}

fn sizes(size: &[i64]) -> Vec<Value> {
    size.iter().map(|size| json!({"as_int": size})).collect()
}

/// The size of the batch: any.
fn batch() -> Value {
    json!({"as_expr": {"expr_str": "Symbol('s0', positive=True, integer=True)", "hint": {"as_int": 2}}})
}

/// `TensorMeta`; the strides are those of a contiguous tensor of the shape `like`.
fn meta(kind: Kind, sizes: &[Value], like: &[i64], requires_grad: bool) -> Result<Value> {
    let found = TYPES.iter().find(|(known, _)| *known == kind);
    Ok(json!({
        "dtype": found.context("an exported program has no such type")?.1,
        "sizes": sizes,
        "requires_grad": requires_grad,
        "device": {"type": "cpu", "index": null},
        "strides": contiguous(like).iter().map(|stride| json!({"as_int": stride})).collect::<Vec<_>>(),
        "storage_offset": {"as_int": 0},
        // Strided.
        "layout": 7,
    }))
}

/// The program: nodes, tensors and signature.
struct Program {
    nodes: Vec<Value>,
    tensors: serde_json::Map<String, Value>,
    /// The result of the last node, and its shape without the batch.
    last: String,
    shape: Vec<i64>,
}

const INPUT: &str = "x";

impl Program {
    /// Adds a node that maps the last result to one of `shape`.
    fn add(&mut self, operator: &str, name: String, arguments: Vec<(&str, Value)>, shape: Vec<i64>) -> Result<()> {
        let input = |(name, argument): (&str, Value)| json!({"name": name, "arg": argument, "kind": 1});
        self.nodes.push(json!({
            "target": format!("torch.ops.aten.{operator}"),
            "inputs": arguments.into_iter().map(input).collect::<Vec<_>>(),
            "outputs": [{"as_tensor": {"name": name}}],
            "metadata": {},
            "is_hop_single_tensor_return": null,
            "name": name,
        }));
        self.shape = shape;
        self.tensors.insert(name.clone(), self.result()?);
        self.last = name;
        Ok(())
    }

    /// The meta of a batch of the present shape.
    fn result(&self) -> Result<Value> {
        let all: Vec<Value> = std::iter::once(batch()).chain(sizes(&self.shape)).collect();
        let like: Vec<i64> = std::iter::once(1).chain(self.shape.iter().copied()).collect();
        meta(Kind::Float, &all, &like, false)
    }

    fn layer(&mut self, name: &str, layer: &Layer) -> Result<()> {
        let own = |parameter: &str| json!({"as_tensor": {"name": argument(&format!("{name}.{parameter}"))}});
        let square = |size: i64| json!({"as_ints": [size, size]});
        let (last, node) = (json!({"as_tensor": {"name": self.last}}), name.replace('.', "_"));
        let [channels, side, _] = self.shape[..] else { bail!("{name} takes images") };
        let image = |channels: i64, side: i64| vec![channels, side, side];
        match *layer {
            Layer::Conv2d { outputs, kernel, padding, .. } => {
                let mut arguments = vec![("input", last), ("weight", own("weight"))];
                if padding > 0 {
                    arguments.extend([
                        ("bias", json!({"as_none": true})),
                        ("stride", square(1)),
                        ("padding", square(padding)),
                    ]);
                }
                self.add("conv2d.default", node, arguments, image(outputs, side + 2 * padding - kernel + 1))
            }
            Layer::ReLU => self.add("relu.default", node, vec![("self", last)], image(channels, side)),
            Layer::BatchNorm2d { .. } => {
                let mut arguments = vec![("input", last)];
                arguments.extend(["weight", "bias", "running_mean", "running_var"].map(|it| (it, own(it))));
                arguments.extend([
                    ("training", json!({"as_bool": false})),
                    ("momentum", json!({"as_float": 0.1})),
                    ("eps", json!({"as_float": 1e-5})),
                    ("cudnn_enabled", json!({"as_bool": true})),
                ]);
                self.add("batch_norm.default", node, arguments, image(channels, side))
            }
            Layer::Dropout { p } => {
                let arguments =
                    vec![("input", last), ("p", json!({"as_float": p})), ("train", json!({"as_bool": false}))];
                self.add("dropout.default", node, arguments, image(channels, side))
            }
            Layer::MaxPool2d { kernel } | Layer::AvgPool2d { kernel } => {
                let kind = if matches!(layer, Layer::MaxPool2d { .. }) { "max" } else { "avg" };
                let arguments = vec![("self", last), ("kernel_size", square(kernel)), ("stride", square(kernel))];
                self.add(&format!("{kind}_pool2d.default"), node, arguments, image(channels, side / kernel))
            }
        }
    }
}

/// `models/model.json`.
fn program(weights: &Weights) -> Result<Value> {
    let side = SIDE as i64;
    let shape = vec![1, side, side];
    let mut program = Program { nodes: Vec::new(), tensors: serde_json::Map::new(), last: INPUT.into(), shape };
    let state_dict = sorted(&weights.state_dict);
    for (key, tensor) in &state_dict {
        let meta = meta(tensor.kind(), &sizes(&tensor.size()), &tensor.size(), is_parameter(key))?;
        program.tensors.insert(argument(key), meta);
    }
    program.tensors.insert(INPUT.into(), program.result()?);
    for block in blocks(weights.dropout) {
        for (index, layer) in block.layers.iter().enumerate() {
            program.layer(&format!("{}.{index}", block.name), layer)?;
        }
    }
    let classes = CLASSES as i64;
    let last = json!({"as_tensor": {"name": program.last}});
    let arguments = vec![("self", last), ("size", json!({"as_ints": [-1, classes]}))];
    program.add("view.default", "view".into(), arguments, vec![classes])?;
    let arguments = vec![("self", json!({"as_tensor": {"name": "view"}})), ("dim", json!({"as_int": -1}))];
    program.add("log_softmax.int", "log_softmax".into(), arguments, vec![classes])?;

    let tensor = |name: &str| json!({"as_tensor": {"name": name}});
    let spec = |key: &String| match is_parameter(key) {
        true => json!({"parameter": {"arg": {"name": argument(key)}, "parameter_name": key}}),
        false => json!({"buffer": {"arg": {"name": argument(key)}, "buffer_name": key, "persistent": true}}),
    };
    let inputs = state_dict.iter().map(|(key, _)| tensor(&argument(key))).chain([tensor(INPUT)]);
    let specs = state_dict.iter().map(|(key, _)| spec(key)).chain([json!({"user_input": {"arg": tensor(INPUT)}})]);
    // How the arguments of a call, one tensor, and its result are laid out: a pytree as JSON within JSON.
    let leaf = json!({"type": null, "context": null, "children_spec": []});
    let positional = json!({"type": "builtins.tuple", "context": "null", "children_spec": [leaf]});
    let keywords = json!({"type": "builtins.dict", "context": "[]", "children_spec": []});
    let call = json!({"type": "builtins.tuple", "context": "null", "children_spec": [positional, keywords]});
    let signature = json!({
        "inputs": [],
        "outputs": [],
        "in_spec": json!([1, call]).to_string(),
        "out_spec": json!([1, leaf]).to_string(),
        "forward_arg_names": [INPUT],
    });
    Ok(json!({
        "graph_module": {
            "graph": {
                "inputs": inputs.collect::<Vec<_>>(),
                "outputs": [tensor(&program.last)],
                "nodes": program.nodes,
                "tensor_values": program.tensors,
                "sym_int_values": {},
                "sym_bool_values": {},
                "is_single_tensor_return": false,
                "custom_obj_values": {},
                "sym_float_values": {},
            },
            "signature": {
                "input_specs": specs.collect::<Vec<_>>(),
                "output_specs": [{"user_output": {"arg": tensor(&program.last)}}],
            },
            "module_call_graph": [{"fqn": "", "signature": signature}],
            "metadata": {},
            "treespec_namedtuple_fields": {},
        },
        "opset_version": {"aten": 10},
        "range_constraints": {"s0": {"min_val": 0, "max_val": null}},
        "schema_version": {"major": 8, "minor": 17},
        "verifiers": ["TRAINING"],
        "torch_version": "2.11.0",
        "guards_code": [],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn strides_of_contiguous_tensors() {
        assert_eq!(contiguous(&[16, 1, 3, 3]), [9, 9, 3, 1]);
        assert_eq!(contiguous(&[16]), [1]);
        assert!(contiguous(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn any_description_is_read_or_refused(
            dtype in 0i64..15, sizes in prop::collection::vec(any::<i64>().prop_map(|size| size % 5), 0..4),
            strides in prop::collection::vec(-3i64..20, 0..4), bytes in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let of = |numbers: Vec<i64>| numbers.into_iter().map(|as_int| Size { as_int }).collect();
            let tensor_meta = Meta { dtype, sizes: of(sizes), strides: of(strides), storage_offset: Size { as_int: 0 } };
            let weight = Weight { path_name: "weight_0".into(), use_pickle: false, tensor_meta };
            if let Ok(tensor) = weight.tensor(&bytes) {
                prop_assert_eq!(tensor.numel() * tensor.kind().elt_size_in_bytes(), bytes.len());
            }
        }
    }
}
