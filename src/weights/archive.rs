//! `.pth` and `.pt`: the zip archives of `torch.save` and `torch.jit.save`, read without PyTorch; `.pth` written too.

use super::StateDict;
use super::pickle::{self, Object, TensorSpec, Value};
use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::rc::Rc;
use tch::{Device, Kind, Tensor};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// The longest record that is read; the whole net has 45 kB.
const MAX_RECORD: u64 = 256 << 20;

/// How deep dicts and modules may lie in each other.
const MAX_DEPTH: usize = 32;

/// Reads the state_dict in an archive of `torch.save` or `torch.jit.save`.
///
/// A checkpoint that keeps it under `model`, `state_dict` or a similar key is looked into; a TorchScript module's
/// parameters and buffers are collected from its tree. Nothing of what the archive holds is run.
///
/// # Errors
///
/// One sentence that reads on from the file's name.
pub fn read(file: impl Read + Seek) -> Result<StateDict> {
    let zip = ZipArchive::new(file).map_err(|_| anyhow::anyhow!("is no whole zip archive: copy or save it again"))?;
    let names: Vec<String> = zip.file_names().filter_map(|name| Some(name.ok()?.into_owned())).collect();
    let pickle_name = names.iter().find(|name| name.ends_with("/data.pkl"));
    let pickle_name = pickle_name.context("is a zip archive without PyTorch's data.pkl")?;
    let folder = pickle_name.trim_end_matches("data.pkl").to_string();
    let mut archive = Archive { zip, folder };
    if let Ok(order) = archive.record("byteorder") {
        ensure!(order != b"big", "was saved on a big-endian machine, which is not supported: save it on another one");
    }
    let value = pickle::read(&archive.record("data.pkl")?)?;
    let is_torchscript = names.iter().any(|name| name.ends_with("/constants.pkl"));
    let mut specs = Vec::new();
    match &value {
        Value::Object(module) if is_torchscript => collect_module(module, "", 0, &mut specs)?,
        Value::Object(module) => bail!(
            "holds a whole pickled {}, which only its own Python code can open: save net.state_dict() instead",
            module.class.rsplit('.').next().unwrap_or_default()
        ),
        value => specs = find_state_dict(value)?,
    }
    let tensors = specs.into_iter().map(|(name, spec)| {
        let tensor = archive.tensor(&spec).with_context(|| format!("holds a damaged tensor {name}"))?;
        Ok((name, tensor))
    });
    Ok(StateDict(tensors.collect::<Result<_>>()?))
}

type Specs = Vec<(String, Rc<TensorSpec>)>;

/// The tensors of a dict of tensors, or of the first such dict among the values of a checkpoint.
fn find_state_dict(value: &Value) -> Result<Specs> {
    let Value::Dict(dict) = value else { bail!("holds no state_dict: save net.state_dict()") };
    let dict = dict.borrow();
    let tensors = |entries: &[(Value, Value)]| -> Specs {
        let tensor = |(key, value): &(Value, Value)| match (key, value) {
            (Value::Text(key), Value::Tensor(spec)) => Some((key.to_string(), Rc::clone(spec))),
            _ => None,
        };
        entries.iter().filter_map(tensor).collect()
    };
    let own = tensors(&dict);
    if !own.is_empty() {
        return Ok(own);
    }
    for known in ["model", "state_dict", "model_state_dict", "net"] {
        for (key, value) in dict.iter() {
            if let (Value::Text(key), Value::Dict(inner)) = (key, value)
                && &**key == known
                && !tensors(&inner.borrow()).is_empty()
            {
                return Ok(tensors(&inner.borrow()));
            }
        }
    }
    bail!("holds no state_dict, neither at its top nor under model or state_dict: save net.state_dict()")
}

/// Collects the tensors of a TorchScript module's tree under their state_dict keys.
fn collect_module(module: &Object, prefix: &str, depth: usize, specs: &mut Specs) -> Result<()> {
    ensure!(depth < MAX_DEPTH, "holds modules more than {MAX_DEPTH} deep");
    let state = module.state.borrow();
    let Some(Value::Dict(attributes)) = &*state else { return Ok(()) };
    for (key, value) in attributes.borrow().iter() {
        let Value::Text(key) = key else { continue };
        match value {
            Value::Tensor(spec) => specs.push((format!("{prefix}{key}"), Rc::clone(spec))),
            Value::Object(child) => collect_module(child, &format!("{prefix}{key}."), depth + 1, specs)?,
            _ => {}
        }
    }
    Ok(())
}

/// A zip archive whose records lie in one folder.
struct Archive<R> {
    zip: ZipArchive<R>,
    folder: String,
}

impl<R: Read + Seek> Archive<R> {
    fn record(&mut self, name: &str) -> Result<Vec<u8>> {
        let path = format!("{}{name}", self.folder);
        let record = self.zip.by_name(&path).with_context(|| format!("holds no readable record {path}"))?;
        ensure!(
            record.compression() == CompressionMethod::Stored && record.size() <= MAX_RECORD,
            "holds a record {path} that PyTorch would not write: it is compressed, or too long"
        );
        let mut bytes = Vec::new();
        record.take(MAX_RECORD).read_to_end(&mut bytes).with_context(|| format!("holds a damaged record {path}"))?;
        Ok(bytes)
    }

    fn tensor(&mut self, spec: &TensorSpec) -> Result<Tensor> {
        let kind = kind(&spec.storage.class)?;
        let bytes = self.record(&format!("data/{}", spec.storage.key))?;
        let length = spec.storage.length;
        let expected = usize::try_from(length)?.checked_mul(kind.elt_size_in_bytes());
        ensure!(expected == Some(bytes.len()), "its storage has {} bytes, not {length} elements", bytes.len());
        ensure!(spec.size.len() == spec.stride.len() && spec.size.len() <= 8, "its shape and strides do not fit");
        let in_bounds = spec.size.iter().chain(&spec.stride).all(|&n| n >= 0) && spec.offset >= 0;
        let elements = spec.size.iter().try_fold(1i64, |product, &n| product.checked_mul(n));
        let last =
            spec.size.iter().zip(&spec.stride).try_fold(spec.offset, |last, (&size, &stride)| {
                last.checked_add((size - 1).max(0).checked_mul(stride)?)
            });
        let fits = elements.is_some_and(|n| n <= length) && last.is_some_and(|last| last < length.max(1));
        ensure!(in_bounds && fits, "it reaches beyond its storage");
        let flat = Tensor::f_from_data_size(&bytes, &[length], kind)?;
        Ok(flat.f_as_strided(&spec.size, &spec.stride, spec.offset)?.f_contiguous()?)
    }
}

/// What `torch.FloatStorage` and its like hold.
fn kind(storage: &str) -> Result<Kind> {
    Ok(match storage {
        "FloatStorage" => Kind::Float,
        "DoubleStorage" => Kind::Double,
        "HalfStorage" => Kind::Half,
        "BFloat16Storage" => Kind::BFloat16,
        "LongStorage" => Kind::Int64,
        "IntStorage" => Kind::Int,
        "ShortStorage" => Kind::Int16,
        "CharStorage" => Kind::Int8,
        "ByteStorage" => Kind::Uint8,
        "BoolStorage" => Kind::Bool,
        _ => bail!("its type, {storage}, is none that weights have"),
    })
}

/// Writes `weights` as `torch.save(dict(net.state_dict()), path)` does: float32 and int64 tensors.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write(path: &Path, weights: &StateDict) -> Result<()> {
    let mut zip = ZipWriter::new(File::create(path)?);
    let mut record = |name: &str, bytes: &[u8]| -> Result<()> {
        // PyTorch maps the records of a file into memory, so they lie at multiples of 64 bytes. No time of day.
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).with_alignment(64);
        zip.start_file(format!("archive/{name}"), options.last_modified_time(zip::DateTime::default()))?;
        Ok(zip.write_all(bytes)?)
    };
    record("data.pkl", &pickled(weights)?)?;
    record("byteorder", b"little")?;
    for (index, (_, tensor)) in weights.0.iter().enumerate() {
        record(&format!("data/{index}"), &super::bytes(tensor)?)?;
    }
    record("version", b"3\n")?;
    zip.finish()?.flush()?;
    Ok(())
}

/// The pickle of a plain dict of tensors, the n-th in the record `data/n`: protocol 2, as PyTorch writes it.
fn pickled(weights: &StateDict) -> Result<Vec<u8>> {
    let mut out = b"\x80\x02}(".to_vec();
    for (index, (key, tensor)) in weights.0.iter().enumerate() {
        let storage = match tensor.kind() {
            Kind::Float => "FloatStorage",
            Kind::Int64 => "LongStorage",
            kind => bail!("{key} is of the type {kind:?}, which is not written"),
        };
        text(&mut out, key);
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend(format!("ctorch\n{storage}\n").as_bytes());
        text(&mut out, &index.to_string());
        text(&mut out, "cpu");
        integer(&mut out, tensor.numel() as i64);
        out.extend(b"tQ");
        integer(&mut out, 0);
        for numbers in [tensor.size(), tensor.f_to_device(Device::Cpu)?.f_contiguous()?.stride()] {
            out.push(b'(');
            numbers.into_iter().for_each(|number| integer(&mut out, number));
            out.push(b't');
        }
        // requires_grad, no backward hooks
        out.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    out.extend(b"u.");
    Ok(out)
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

/// An integer of 4 bytes: no tensor of the net has a size beyond.
fn integer(out: &mut Vec<u8>, number: i64) {
    out.push(b'J');
    out.extend((number as i32).to_le_bytes());
}
