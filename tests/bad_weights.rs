//! Weights files that are damaged, foreign or hostile: each is refused in one sentence, in little memory, and nothing
//! that they hold is run.

mod common;

use common::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use tch::{Device, Kind, Tensor};
use tch_mnist::weights::{self, WeightsFile};
use tch_mnist::{Architecture, Kernels, Net, StateDict};
use tempfile::TempDir;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// The endings of the formats that are written, and the format before PyTorch 1.6, which Python writes.
fn formats() -> Vec<&'static str> {
    weights::written().map(|format| format.endings[0]).chain(["legacy"]).collect()
}

/// The bytes of a good file, and its folder.
fn good(format: &str) -> (TempDir, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("model.{}", if format == "legacy" { "pth" } else { format }));
    let net = Net::new(Device::Cpu, &Architecture::original(0.05), Kernels::Torch);
    weights::write(&path, &net.state_dict(), net.architecture(), &BTreeMap::new()).unwrap();
    if format == "legacy" {
        let program = "import sys, torch; torch.save(torch.load(sys.argv[1], weights_only=True), sys.argv[1], \
                       _use_new_zipfile_serialization=False)";
        assert!(Command::new(PYTHON).args(["-c", program]).arg(&path).status().unwrap().success());
    }
    (folder, std::fs::read(path).unwrap())
}

/// An archive as torch.save writes it, with this pickle.
fn archive(pickle: &[u8], records: &[(&str, &[u8])]) -> Vec<u8> {
    packed(pickle, records, CompressionMethod::Stored)
}

fn packed(pickle: &[u8], records: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in [("data.pkl", pickle)].iter().chain(records) {
        zip.start_file(format!("archive/{name}"), options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// The pickle of a dict with one tensor, the net's first, which views `numel` floats with `size` and `stride`.
fn tensor_pickle(numel: i64, size: &[i64], stride: &[i64]) -> Vec<u8> {
    let long = |n: &i64| [&b"\x8a\x08"[..], &n.to_le_bytes()].concat();
    let tuple = |items: &[i64]| [b"(".to_vec(), items.iter().flat_map(long).collect(), b"t".to_vec()].concat();
    let mut pickle =
        b"\x80\x02}X\x13\x00\x00\x00convblock1.0.weightctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage"
            .to_vec();
    pickle.extend(b"ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu");
    pickle.extend([long(&numel), b"tQK\x00".to_vec(), tuple(size), tuple(stride)].concat());
    pickle.extend(b"\x89NtRs.");
    pickle
}

/// A safetensors file with this header and data.
fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// `export` refuses the file: one line on stderr with these `expected` parts, exit code 1, nothing written.
fn refused_file(path: &Path, expected: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let (sentence, code) = failure(&mut export(path, folder.path()));
    assert_eq!(code, 1, "{sentence}");
    assert_sentence(&sentence, expected, path, folder.path());
}

/// The same, and a process that says it takes less than 1 GB of memory.
fn refused_file_in_little_memory(path: &Path, expected: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let (stderr, code, kilobytes) = measured(&export(path, folder.path()).process());
    assert!(code == 1 && kilobytes < 1_000_000, "{code}, {kilobytes} KB: {stderr}");
    assert_sentence(stderr.trim_end(), expected, path, folder.path());
}

fn export(weights: &Path, folder: &Path) -> Program {
    let mut command = tch_mnist(&["export", "--weights"]);
    command.arg(weights).arg("--to").arg(folder.join("out.pth"));
    command
}

fn assert_sentence(sentence: &str, expected: &[&str], weights: &Path, folder: &Path) {
    assert_eq!(sentence.lines().count(), 1, "{sentence}");
    for text in expected.iter().chain(&["error: ", weights.to_str().unwrap()]) {
        assert!(sentence.contains(text), "{text:?} is not in {sentence}");
    }
    assert!(sentence.len() < 600, "{sentence}");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
    println!("{}", sentence.replace(weights.parent().unwrap().to_str().unwrap(), "DIR"));
}

/// A file of these bytes.
fn bad(bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.pth");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn refused(bytes: &[u8], expected: &[&str]) {
    let (_folder, path) = bad(bytes);
    refused_file(&path, expected);
}

fn refused_in_little_memory(bytes: &[u8], expected: &[&str]) {
    let (_folder, path) = bad(bytes);
    refused_file_in_little_memory(&path, expected);
}

/// A state_dict's keys and tensors.
type Entries = Vec<(String, Tensor)>;

#[test]
fn no_weights_file_at_all() {
    let folder = tempfile::tempdir().unwrap();
    refused_file(folder.path(), &["it is a folder without model.pt", "; name a file in it"]);
    refused_file(&folder.path().join("none.pt"), &["No such file or directory"]);
    refused_file_in_little_memory(Path::new("/dev/zero"), &["it is not a regular file"]);
    refused(b"", &["it is empty"]);
    refused(b"convblock1.0.weight = [0.1, 0.2]\n", &["it has none of the formats that are read: TorchScript module, "]);
    let large = folder.path().join("large.pth");
    std::fs::File::create(&large).unwrap().set_len(1 << 40).unwrap();
    refused_file_in_little_memory(&large, &["it has more than 256 MiB, the most that is read as weights"]);
    refused(&archive(b"", &[])[..10], &["the archive is damaged or cut short"]);
    for (record, expected) in [
        ("readme.txt", "it is a zip archive, but not one of torch.save"),
        ("model.weights.h5", "it is a .keras file: save the arrays as .npz or .safetensors there"),
    ] {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file(record, SimpleFileOptions::default()).unwrap();
        refused(&zip.finish().unwrap().into_inner(), &[expected]);
    }
    refused(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n", &["run git lfs pull"]);
    refused(b"<!DOCTYPE html>\n<html><body>404</body></html>", &["it is a web page, not the file that it offers"]);
    refused(b"\x89HDF\r\n\x1a\n\0\0\0\0", &["it is an HDF5 file, as Keras writes .h5"]);
    let (_folder, onnx) = good("onnx");
    refused(&onnx[..onnx.len() / 2], &["it is an ONNX model that is damaged or cut short"]);
}

#[test]
fn cut_short() {
    for format in formats() {
        let (folder, bytes) = good(format);
        let path = folder.path().join("cut");
        // Everywhere near the ends, where the headers lie, and at a step that shares no factor with any alignment else.
        let lengths = (0..bytes.len()).filter(|length| *length < 600 || length + 600 > bytes.len() || length % 97 == 0);
        for length in lengths {
            std::fs::write(&path, &bytes[..length]).unwrap();
            match read_file(&path) {
                Err(error) => assert!(!format!("{error:#}").contains('\n'), "{error:#}"),
                // Metadata end an ONNX file, and it does not say how long it is.
                Ok(_) => assert!(format == "onnx" && length > bytes.len() / 2, "{format} of {length} bytes was read"),
            }
        }
    }
    let (_folder, bytes) = good("pt");
    refused(&bytes[..bytes.len() / 2], &["the archive is damaged or cut short"]);
    let (_folder, bytes) = good("safetensors");
    refused(&bytes[..bytes.len() - 1], &["it is damaged or not a safetensors file"]);
    refused(&bytes[..100], &["its header should have", "it is cut short"]);
}

#[test]
fn another_net() {
    let (folder, _) = good("pth");
    let net = Net::new(Device::Cpu, &Architecture::original(0.05), Kernels::Torch);
    let path = folder.path().join("other.safetensors");
    let changed = |change: &dyn Fn(&mut Entries)| {
        let mut entries = net.state_dict().0;
        change(&mut entries);
        Tensor::write_safetensors(&entries, &path).unwrap();
    };
    let floats = |size: &[i64], value: f64| Tensor::full(size, value, (Kind::Float, Device::Cpu));

    changed(&|entries| *entries = vec![("fc.weight".into(), floats(&[10, 784], 0.0))]);
    refused_file(&path, &["convblock1.0.weight is missing (the file holds 1 tensor, the first fc.weight)"]);
    changed(&|entries| drop(entries.remove(3)));
    refused_file(&path, &["does not fit the net: convblock1.2.running_mean is missing"]);
    changed(&|entries| entries.push(("fc.bias".into(), floats(&[10], 0.0))));
    refused_file(&path, &["fc.bias is not a tensor of the net"]);
    changed(&|entries| entries[0].1 = floats(&[32, 1, 3, 3], 0.0));
    refused_file(&path, &["convblock1.0.weight has the shape [32, 1, 3, 3], not [16, 1, 3, 3]"]);
    changed(&|entries| entries[0].1 = entries[0].1.to_kind(Kind::Int64));
    refused_file(&path, &["convblock1.0.weight has the type int64, not float32"]);
    changed(&|entries| entries[5].1 = floats(&[], 3.5));
    refused_file(&path, &["convblock1.2.num_batches_tracked has the type float32, not int64"]);
    for value in [f64::NAN, f64::INFINITY] {
        changed(&|entries| entries[1].1 = floats(&[16], value));
        refused_file(&path, &["convblock1.2.weight holds a number that is nan or infinite"]);
    }
}

#[test]
fn pickles_that_call_something() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("it-was-run");
    let command = format!("touch {}", trace.display());
    let argument = [b"X", &(command.len() as u32).to_le_bytes()[..], command.as_bytes()].concat();
    let call = |function: &[u8]| [b"\x80\x02", function, &argument, b"\x85R."].concat();
    for (function, name) in [
        (&b"cposix\nsystem\n"[..], "posix.system"),
        (b"c__builtin__\neval\n", "__builtin__.eval"),
        (b"\x8c\x08builtins\x8c\x04exec\x93", "builtins.exec"),
        (b"ctorch._utils\n_import_dotted_name\n", "torch._utils._import_dotted_name"),
        (b"ctorch.storage\n_load_from_bytes\n", "torch.storage._load_from_bytes"),
    ] {
        refused(&archive(&call(function), &[]), &[&format!("{name} would make"), "nothing is run here"]);
        // A weight that depends on a call is named; the call is not made. As a bare pickle it is refused too.
        let weight =
            [b"\x80\x02}X\x13\x00\x00\x00convblock1.0.weight", &call(function)[2..call(function).len() - 1], b"s."];
        let expected = format!("convblock1.0.weight cannot be read: it depends on {name}, which is not called here");
        refused(&archive(&weight.concat(), &[]), &[&expected]);
        // Beside the weights it is passed over.
        let hidden = [b"\x80\x02}X\x01\x00\x00\x00x", &call(function)[2..call(function).len() - 1], b"s."].concat();
        refused(&archive(&hidden, &[]), &["it holds no tensors, only x: it depends on"]);
        refused(&call(function), &["it is a bare pickle"]);
    }
    refused(&archive(b"\x80\x02c__main__\nNet\n)\x81}b.", &[]), &["__main__.Net would make", "state_dict()"]);
    refused(&archive(b"\x80\x02(S'ls'\nios\nsystem\n.", &[]), &["opcode", "which torch does not write"]);
    assert!(!trace.exists(), "a pickle was run");
}

#[test]
fn pickles_without_a_state_dict() {
    refused(&archive(b"\x80\x02}.", &[]), &["it holds no named tensors"]);
    refused(&archive(b"\x80\x02K\x07.", &[]), &["it holds no named tensors"]);
    refused(&archive(b"\x80\x02", &[]), &["it ends in the middle"]);
    refused(&archive(b"\x80\x02X\xff\xff\xff\xffa.", &[]), &["it ends in the middle"]);
    refused(&archive(b"\x80\x02h\x05.", &[]), &["it refers to a value that does not exist"]);
    refused(&archive(b"\x80\x02u.", &[]), &["it takes a value that does not exist"]);
}

#[test]
fn pickles_that_grow() {
    const SIZE: usize = 1_000_000;
    let filled = |before: &[u8], repeated: &[u8], after: &[u8]| {
        [before, &repeated.repeat(SIZE / repeated.len()), after].concat()
    };
    // Wide, deep, and a tuple of itself doubled at every step: 2^300,000 when it is written out.
    for pickle in
        [filled(b"\x80\x02", b"}", b"."), filled(b"\x80\x02)", b"\x85", b"."), filled(b"\x80\x02)", b"2\x86", b".")]
    {
        refused_in_little_memory(&archive(&pickle, &[]), &["it holds no named tensors"]);
    }
    refused_in_little_memory(
        &archive(&filled(b"\x80\x02", b"(", b"."), &[]),
        &["it takes a value that does not exist"],
    );
    // Modules that hold the module below twice, 30 deep.
    let module = |inner: &[u8]| [b"c__torch__\nM\n)\x81}", inner, b"b"].concat();
    let mut doubled = [b"\x80\x02", &module(b"")[..]].concat();
    for level in 0..30u8 {
        doubled.extend([b'q', level]);
        doubled
            .extend(module(&[b"(X\x01\x00\x00\x00ah", &[level][..], b"X\x01\x00\x00\x00bh", &[level], b"u"].concat()));
    }
    refused_in_little_memory(&archive(&[&doubled[..], b"."].concat(), &[]), &["it holds more than 100000 entries"]);
    // A module that holds itself.
    let own = b"\x80\x02c__torch__\nM\n)\x81q\x00}X\x01\x00\x00\x00ah\x00sb.";
    refused_in_little_memory(&archive(own, &[]), &["its modules are nested more than 32 deep"]);
    // A packed pickle of 64 MB in 64 KB.
    let bomb = packed(&vec![b'}'; 64 << 20], &[], CompressionMethod::Deflated);
    assert!(bomb.len() < 100_000);
    refused_in_little_memory(&bomb, &["data.pkl in it has more than 1048576 bytes"]);
}

#[test]
fn a_name_of_300_kilobytes_is_not_repeated_in_every_message() {
    let long = "x".repeat(300_000);
    // 60,000 entries, each a tensor whose storage has a class of that name.
    let mut pickle = tensor_pickle(6, &[6], &[1]);
    let at = pickle.windows(12).position(|bytes| bytes == b"FloatStorage").unwrap();
    pickle.splice(at..at + 12, long.bytes());
    pickle.truncate(pickle.len() - 2);
    pickle.extend(b"q\x00s");
    (0..60_000u32).for_each(|number| {
        pickle.extend(b"X\x03\x00\x00\x00");
        pickle.extend([number, number / 40, number / 1600].map(|digit| b'0' + (digit % 40) as u8));
        pickle.extend(b"h\x00s");
    });
    pickle.push(b'.');
    refused_in_little_memory(&archive(&pickle, &[]), &["its numbers have a type (xxx", "that is not read"]);
}

#[test]
fn tensors_that_are_not_there() {
    let floats = |numel: usize| vec![0u8; 4 * numel];
    let file = |pickle: &[u8], bytes: &[u8]| archive(pickle, &[("data/0", bytes)]);
    refused(&archive(&tensor_pickle(6, &[6], &[1]), &[]), &["damaged", "data/0"]);
    refused(&file(&tensor_pickle(6, &[6], &[1]), &floats(5)), &["20 bytes are not a tensor [6] of float32"]);
    refused(&file(&tensor_pickle(6, &[2, 4], &[3, 1]), &floats(6)), &["it reaches beyond its storage"]);
    refused(&file(&tensor_pickle(6, &[i64::MAX, 4], &[0, 0]), &floats(6)), &["it reaches beyond its storage"]);
    refused(&file(&tensor_pickle(6, &[6], &[-1]), &floats(6)), &["it reaches beyond its storage"]);
    refused_in_little_memory(
        &file(&tensor_pickle(1, &[1 << 40], &[0]), &floats(1)),
        &["the tensors take more than 536870912 bytes"],
    );
    refused_in_little_memory(&file(&tensor_pickle(i64::MAX, &[6], &[1]), &floats(6)), &["24 bytes are not a tensor"]);
    refused(&file(&tensor_pickle(-1, &[6], &[1]), &floats(6)), &["24 bytes are not a tensor"]);
    let bomb = packed(&tensor_pickle(6, &[6], &[1]), &[("data/0", &vec![0; 257 << 20])], CompressionMethod::Deflated);
    refused_in_little_memory(&bomb, &["data/0 in it has more than 268435456 bytes"]);
}

#[test]
fn safetensors_with_absurd_headers() {
    let header = |length: u64| [&length.to_le_bytes()[..], b"{}"].concat();
    refused_in_little_memory(
        &header(1 << 60),
        &["its header should have 1152921504606846976 bytes, and 2 bytes follow"],
    );
    refused(&header(u64::MAX), &["its header should have 18446744073709551615 bytes"]);
    refused(&safetensors("{\"a\": 1}", &[]), &["it is damaged or not a safetensors file"]);
    let entry =
        |shape: &str, end: u64| format!("{{\"a\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[0,{end}]}}}}");
    refused(&safetensors(&entry("[4]", 16), &[0; 12]), &["it is damaged or not a safetensors file"]);
    refused(
        &safetensors(&entry("[4611686018427387904, 4]", 16), &[0; 16]),
        &["it is damaged or not a safetensors file"],
    );
    refused(&safetensors(&entry("[5]", 16), &[0; 16]), &["it is damaged or not a safetensors file"]);
    let mut deep = "[".repeat(4 << 20);
    deep.insert_str(0, "{\"a\":");
    refused_in_little_memory(&safetensors(&deep, &[]), &["it is damaged or not a safetensors file"]);
}

/// Reads `bytes` as a file: whatever they are, this ends without a panic.
fn read(bytes: &[u8]) -> anyhow::Result<StateDict> {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("weights");
    std::fs::write(&path, bytes).unwrap();
    read_file(&path)
}

fn read_file(path: &Path) -> anyhow::Result<StateDict> {
    thread_local! {
        static EXPECTED: StateDict =
            Net::new(Device::Cpu, &Architecture::original(0.05), Kernels::Torch).state_dict();
    }
    EXPECTED.with(|expected| WeightsFile::open(path)?.read(None, expected))
}

/// Pieces of pickles: every opcode that is read, known names, references.
fn pickle_piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::sample::select(b"(012N)]tlaes}du\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94\x81QRb.".to_vec())
            .prop_map(|it| vec![it]),
        (prop::sample::select(b"qhK".to_vec()), 0..6u8).prop_map(|(opcode, index)| vec![opcode, index]),
        any::<i64>().prop_map(|int| [&b"\x8a\x08"[..], &int.to_le_bytes()].concat()),
        "[a-z.]{0,6}".prop_map(|text| [&[0x8c, text.len() as u8], text.as_bytes()].concat()),
        prop::sample::select(vec![
            &b"X\x07\x00\x00\x00storage"[..],
            b"ctorch\nFloatStorage\n",
            b"ccollections\nOrderedDict\n",
            b"ctorch._utils\n_rebuild_tensor_v2\n",
            b"ctorch._utils\n_rebuild_parameter\n",
            b"c__torch__\nNet\n",
            b"cargparse\nNamespace\n",
            b"X\x13\x00\x00\x00convblock1.0.weight",
            b"c__torch__\nNet\n)\x81}b",
            b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ",
        ])
        .prop_map(<[u8]>::to_vec),
        prop::collection::vec(any::<u8>(), 0..4),
    ]
}

/// The first pickle of a file before PyTorch 1.6: a magic number.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes_never_panic(format in any::<prop::sample::Index>(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        static GOOD: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
        let good = GOOD.get_or_init(|| formats().iter().map(|format| good(format).1).collect());
        let mut bytes = format.get(good).clone();
        let length = bytes.len();
        for (index, byte) in changes {
            // Half of them in the last part, where an archive has its directory, or in the first, where headers lie.
            let at = index.index(length);
            bytes[if byte % 2 == 0 { at } else { at % 4096 }] ^= byte;
        }
        if let Ok(StateDict(tensors)) = read(&bytes) {
            prop_assert!(tensors.iter().map(|(_, tensor)| tensor.numel()).sum::<usize>() < 1 << 24);
        }
    }

    #[test]
    fn random_pickles_are_refused(pieces in prop::collection::vec(pickle_piece(), 0..60)) {
        let pickle = [b"\x80\x02".to_vec(), pieces.concat(), b".".to_vec()].concat();
        prop_assert!(read(&archive(&pickle, &[("data/0", &[0; 16])])).is_err());
        prop_assert!(read(&[LEGACY, &pickle, &pickle, &pickle, &[0; 16]].concat()).is_err());
    }

    #[test]
    fn random_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), start in 0..6usize) {
        let start: &[u8] = [&b""[..], b"PK\x03\x04", b"\x80\x02", b"\x20\0\0\0\0\0\0\0{", LEGACY, b"\x08\x0a\x3a"][start];
        prop_assert!(read(&[start, &bytes].concat()).is_err());
    }
}
