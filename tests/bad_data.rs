//! Data files that are damaged, foreign or hostile: each is refused in one sentence, at once, in little memory.

mod common;

use common::*;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tch::Device;
use tch_mnist::{Data, Dataset};
use tempfile::TempDir;

const IMAGES: &str = "t10k-images-idx3-ubyte";
const LABELS: &str = "t10k-labels-idx1-ubyte";

fn real(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/data/mnist")).join(name)
}

/// A folder with links to the four real files.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", IMAGES, LABELS] {
        std::os::unix::fs::symlink(real(name), folder.path().join(name)).unwrap();
    }
    folder
}

/// Removes the link to a real file and returns its path, for another file to be put there.
fn cleared(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::remove_file(&path).unwrap();
    path
}

fn put(folder: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(cleared(folder, name), bytes).unwrap();
}

fn put_gzipped(folder: &Path, name: &str, bytes: &[u8]) {
    cleared(folder, name);
    let file = File::create(folder.join(format!("{name}.gz"))).unwrap();
    let mut encoder = GzEncoder::new(file, Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap();
}

fn header(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// A sparse file of `length` bytes: only its header takes space on disk.
fn put_sparse(folder: &Path, name: &str, numbers: &[u32], length: u64) {
    let mut file = File::create(cleared(folder, name)).unwrap();
    file.write_all(&header(numbers)).unwrap();
    file.set_len(length).unwrap();
}

/// Every command refuses the folder after `damage`: one line on stderr with exit code 1, and the same sentence from the
/// library. `expected` are parts of it.
fn refused(expected: &[&str], damage: impl FnOnce(&Path)) {
    let folder = folder();
    damage(folder.path());
    let (sentence, code) = failure(tch_mnist(&["download", "--check", "--data"]).arg(folder.path()));
    assert_eq!(code, 1, "{sentence}");
    assert_sentence(&sentence, expected, folder.path());
}

/// The same, and a process that says it takes less than 1 GB of memory.
fn refused_in_little_memory(expected: &[&str], damage: impl FnOnce(&Path)) {
    let folder = folder();
    damage(folder.path());
    let (stderr, code, kilobytes) =
        measured(&tch_mnist(&["download", "--check", "--data"]).arg(folder.path()).process());
    assert!(code == 1 && kilobytes < 1_000_000, "{code}, {kilobytes} KB: {stderr}");
    assert_sentence(stderr.trim_end(), expected, folder.path());
}

fn assert_sentence(sentence: &str, expected: &[&str], folder: &Path) {
    assert_eq!(sentence.lines().count(), 1, "{sentence}");
    for text in expected.iter().chain(&["error: "]) {
        assert!(sentence.contains(text), "{text:?} is not in {sentence}");
    }
    println!("{}", sentence.replace(folder.to_str().unwrap(), "DIR"));
    let error = Data::load(folder, Dataset::Mnist, Device::Cpu, 0, 0).unwrap_err();
    assert_eq!(format!("error: {error:#}"), sentence);
}

const DELETE: &str = ": delete it and run `tch-mnist download --dataset mnist --data ";

#[test]
fn truncated_at_every_part() {
    let images = std::fs::read(real(IMAGES)).unwrap();
    refused(&[IMAGES, "has 3 bytes, fewer than the 16 of its header", DELETE], |folder| {
        put(folder, IMAGES, &images[..3])
    });
    refused(&[IMAGES, "has 15 bytes", DELETE], |folder| put(folder, IMAGES, &images[..15]));
    refused(&[IMAGES, "has 16 bytes", "10000 images", "7840016"], |folder| put(folder, IMAGES, &images[..16]));
    let length = images.len();
    refused(&[IMAGES, "has 7840015 bytes", DELETE], |folder| put(folder, IMAGES, &images[..length - 1]));
    refused(&[LABELS, "has 4 bytes", DELETE], |folder| put(folder, LABELS, &header(&[2049])));
}

#[test]
fn too_long() {
    let mut labels = std::fs::read(real(LABELS)).unwrap();
    labels.push(0);
    refused(&[LABELS, "has 10009 bytes", "so 10008 bytes are expected"], |folder| put(folder, LABELS, &labels));
}

#[test]
fn not_idx_at_all() {
    refused(&[IMAGES, "is empty", DELETE], |folder| put(folder, IMAGES, b""));
    refused(&[IMAGES, "starts with 1013478509", "2051"], |folder| put(folder, IMAGES, b"<html>nothing here</html>"));
    refused(&[LABELS, "holds images where labels are expected"], |folder| {
        put(folder, LABELS, &header(&[2051, 10_000, 28, 28]));
    });
    refused(&[IMAGES, "holds labels where images are expected"], |folder| {
        put(folder, IMAGES, &header(&[2049, 10_000]))
    });
    // Whether a file is gzipped its content says, not its name.
    refused(&[IMAGES, "starts with 808464432", "2051"], |folder| {
        put_gzipped(folder, IMAGES, b"0000");
        std::fs::rename(folder.join(format!("{IMAGES}.gz")), folder.join(IMAGES)).unwrap();
    });
}

#[test]
fn counts_and_sizes_that_cannot_be() {
    let small = |numbers: &'static [u32]| move |folder: &Path| put(folder, IMAGES, &header(numbers));
    refused_in_little_memory(&[IMAGES, "declares 2147483648 images; at most 1000000"], small(&[2051, 1 << 31, 28, 28]));
    refused(&[IMAGES, "declares 4294967295 images"], small(&[2051, u32::MAX, u32::MAX, u32::MAX]));
    // 2^28 images of 784 bytes are 0 bytes in 32-bit arithmetic, and so is 1 image of 65,536 x 65,536.
    refused(&[IMAGES, "declares 268435456 images"], small(&[2051, 1 << 28, 28, 28]));
    refused(&[IMAGES, "declares images of 65536x65536 pixels; 28x28"], small(&[2051, 1, 1 << 16, 1 << 16]));
    refused(&[IMAGES, "declares no images"], small(&[2051, 0, 28, 28]));
    refused(&[IMAGES, "declares images of 0x0 pixels"], small(&[2051, 10_000, 0, 0]));
    refused(&[IMAGES, "declares images of 32x32 pixels; 28x28 are expected"], small(&[2051, 10_000, 32, 32]));
    refused_in_little_memory(&[IMAGES, "has 16 bytes", "1000000 images"], small(&[2051, 1_000_000, 28, 28]));
    // Files that are as long as they claim.
    refused_in_little_memory(&[IMAGES, "declares 1000001 images; at most 1000000"], |folder| {
        put_sparse(folder, IMAGES, &[2051, 1_000_001, 28, 28], 16 + 784 * 1_000_001);
    });
    refused_in_little_memory(&[IMAGES, LABELS, "1000000 images", "10000 labels", "delete both"], |folder| {
        put_sparse(folder, IMAGES, &[2051, 1_000_000, 28, 28], 16 + 784 * 1_000_000);
    });
}

#[test]
fn labels_of_another_kind() {
    let mut labels = std::fs::read(real(LABELS)).unwrap();
    labels[8 + 77] = 10;
    refused(&[LABELS, "holds the label 10 (number 77, from 0); labels are 0 to 9"], |folder| {
        put(folder, LABELS, &labels)
    });
    labels[8 + 77] = 255;
    refused(&["holds the label 255 (number 77, from 0)"], |folder| put_gzipped(folder, LABELS, &labels));
}

#[test]
fn images_and_labels_of_different_counts() {
    let fewer = [header(&[2049, 9_999]), vec![0; 9_999]].concat();
    refused(&[IMAGES, "10000 images", LABELS, "9999 labels", "delete both"], |folder| put(folder, LABELS, &fewer));
}

#[test]
fn no_ordinary_file() {
    refused(&[IMAGES, "is a folder, where a file is expected"], |folder| {
        std::fs::create_dir(cleared(folder, IMAGES)).unwrap();
    });
    refused(&[IMAGES, "is a device, pipe or socket, where a file is expected"], |folder| {
        assert!(Command::new("mkfifo").arg(cleared(folder, IMAGES)).status().unwrap().success());
    });
    refused_in_little_memory(&[IMAGES, "is a device"], |folder| {
        std::os::unix::fs::symlink("/dev/zero", cleared(folder, IMAGES)).unwrap();
    });
    refused(&[IMAGES, "is missing: run `tch-mnist download --dataset mnist --data "], |folder| {
        cleared(folder, IMAGES);
    });
}

#[test]
fn unreadable() {
    refused(&[IMAGES, "cannot be read (", "check its permissions"], |folder| {
        // A link to itself: refused to root as well.
        std::os::unix::fs::symlink(IMAGES, cleared(folder, IMAGES)).unwrap();
    });
}

#[test]
fn no_permission() {
    let folder = folder();
    let path = cleared(folder.path(), LABELS);
    std::fs::write(&path, "secret").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    let error = Data::load(folder.path(), Dataset::Mnist, Device::Cpu, 0, 0).unwrap_err().to_string();
    // Root can read it all the same; then it is not an IDX file.
    let expected =
        if File::open(&path).is_ok() { "starts with 1936024434" } else { "cannot be read (Permission denied" };
    assert!(error.contains(expected), "{error}");
}

#[test]
fn gzipped_and_damaged() {
    let images = std::fs::read(real(IMAGES)).unwrap();
    let cut = |length: usize| {
        move |folder: &Path| {
            put_gzipped(folder, LABELS, &std::fs::read(real(LABELS)).unwrap());
            let path = folder.join(format!("{LABELS}.gz"));
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(path, &bytes[..length.min(bytes.len() - 4)]).unwrap();
        }
    };
    refused(&[LABELS, ".gz ends in the middle of its gzipped data"], cut(5));
    refused(&[LABELS, ".gz has ", "so 10008 bytes are expected"], cut(2_000));
    refused(&[LABELS, ".gz ends in the middle of its gzipped data", DELETE], cut(usize::MAX));
    refused(&[".gz is not a valid gzip file"], |folder| {
        cleared(folder, LABELS);
        std::fs::write(folder.join(format!("{LABELS}.gz")), b"\x1f\x8b\x08 and then a text").unwrap();
    });
    refused(&[".gz has 7840015 bytes"], |folder| put_gzipped(folder, IMAGES, &images[..7_840_015]));
}

#[test]
fn gzip_bombs() {
    // 300 MB of zeros after a header of 10,000 images, then after a header that does not match the labels.
    let mut bomb = header(&[2051, 10_000, 28, 28]);
    bomb.resize(300 << 20, 0);
    refused_in_little_memory(&[IMAGES, ".gz has more than 7840016 bytes"], |folder| put_gzipped(folder, IMAGES, &bomb));
    bomb[..16].copy_from_slice(&header(&[2051, 1_000_000, 28, 28]));
    refused_in_little_memory(&["1000000 images", "10000 labels"], |folder| put_gzipped(folder, IMAGES, &bomb));
}

#[test]
fn gzipped_files_are_as_good_as_unpacked_ones() {
    let folder = folder();
    put_gzipped(folder.path(), IMAGES, &std::fs::read(real(IMAGES)).unwrap());
    put_gzipped(folder.path(), LABELS, &std::fs::read(real(LABELS)).unwrap());
    let from_gzip = Data::load(folder.path(), Dataset::Mnist, Device::Cpu, 8, 0).unwrap();
    assert!(std::fs::read(folder.path().join(IMAGES)).unwrap() == std::fs::read(real(IMAGES)).unwrap());
    let unpacked = Data::load(real(IMAGES).parent().unwrap(), Dataset::Mnist, Device::Cpu, 8, 0).unwrap();
    assert!(from_gzip.measured().images.equal(&unpacked.measured().images));
    assert!(from_gzip.measured().labels.equal(&unpacked.measured().labels));
    assert_eq!((from_gzip.train.len(), from_gzip.measured().len()), (8, 10_000));
}

#[test]
fn doctor_tells_every_state_of_a_file() {
    let folder = folder();
    put_gzipped(folder.path(), LABELS, &std::fs::read(real(LABELS)).unwrap());
    put(folder.path(), IMAGES, b"");
    put(folder.path(), "train-labels-idx1-ubyte", &[header(&[2049, 2]), vec![3, 4]].concat());
    let text = stdout(tch_mnist(&["doctor", "--log-format", "json", "--data"]).arg(folder.path()));
    let report = &json_lines(&text)[0];
    let files = report["data"][0]["files"].as_array().unwrap();
    let states: Vec<&str> = files.iter().map(|file| file["checksum"].as_str().unwrap()).collect();
    assert_eq!(states, ["sha256 ok", "sha256 differs from the published one", "is empty", "sha256 ok"]);
    let sizes: Vec<_> =
        files.iter().map(|file| (file["bytes"].as_u64().unwrap(), file["count"].as_u64().unwrap())).collect();
    assert_eq!(sizes, [(47_040_016, 60_000), (10, 2), (0, 0), (10_008, 10_000)]);
    assert_eq!(files[3]["path"], folder.path().join(format!("{LABELS}.gz")).to_str().unwrap());
}

#[test]
fn a_folder_that_cannot_be_written_is_left_as_it_is() {
    let folder = folder();
    put_gzipped(folder.path(), LABELS, &std::fs::read(real(LABELS)).unwrap());
    let mode = |mode| std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o555);
    // Root may write there all the same.
    let writable = tempfile::tempfile_in(folder.path()).is_ok();
    let data = Data::load(folder.path(), Dataset::Mnist, Device::Cpu, 8, 0);
    mode(0o755);
    assert_eq!(data.unwrap().measured().len(), 10_000);
    assert_eq!(folder.path().join(LABELS).exists(), writable);
}

/// The bytes on the device are those of the file, and a batch is what torchvision makes of them.
#[test]
fn what_is_loaded_is_what_the_files_hold() {
    let data = Data::load(real(IMAGES).parent().unwrap(), Dataset::Mnist, Device::Cpu, 0, 0).unwrap();
    for (split, images, labels) in
        [(&data.train, "train-images-idx3-ubyte", "train-labels-idx1-ubyte"), (data.measured(), IMAGES, LABELS)]
    {
        let bytes = std::fs::read(real(images)).unwrap();
        assert!(split.images.view([-1]).equal(&tch::Tensor::from_slice(&bytes[16..])));
        let bytes = std::fs::read(real(labels)).unwrap();
        assert!(split.labels.to_kind(tch::Kind::Uint8).equal(&tch::Tensor::from_slice(&bytes[8..])));
        assert_eq!(split.images.size(), [split.len(), 1, 28, 28]);
        let indices = tch::Tensor::from_slice(&[5i64, 0, 5]);
        let (images, _) = split.batch(&indices).unwrap();
        let torch = (split.images.index_select(0, &indices).to_kind(tch::Kind::Float) / 255 - 0.1307) / 0.3081;
        assert!(images.equal(&torch));
    }
}
