//! NumPy's arrays: `.npz` as Keras has MNIST (`x_train`, `y_train`, `x_test`, `y_test`), and `.npy`. Labels may be in a
//! file of their own, as KMNIST's are.

use super::{Form, Image, LABELS, Portion, Record, Records, part_of, part_of_file, partner, unpacked};
use crate::data::Part;
use crate::data::scale::Survey;
#[cfg(test)]
use crate::digit::Digit;
use crate::shape::{CLASSES, PIXELS, SIDE};
use anyhow::{Context, Result, bail, ensure};
use half::f16;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use torch_weights::npy::{Array, ENDING, MAGIC};
use zip::ZipArchive;
use zip::read::{ArchiveOffset, Config};

/// What to do about an array of another dtype.
const EXPECTED: &str = "save array.astype('float32'), or labels.astype(str)";

/// The most that all arrays of a file may take, in bytes: three times EMNIST, the largest set of this kind.
const MAX_BYTES: u64 = 2 << 30;

/// A zip archive of arrays.
pub(super) struct Npz;

impl Form for Npz {
    fn about(&self) -> &'static str {
        "Keras' `mnist.npz`: `x_train`, `y_train`, `x_test`, `y_test`, or other names with `train` and `test` \
         in them; labels may be text or one-hot, or in a file beside the images, as KMNIST's `kmnist-train-imgs.npz` \
         and `kmnist-train-labels.npz`"
    }

    fn noun(&self) -> &'static str {
        "an .npz file"
    }

    fn title(&self) -> &'static str {
        ".npz"
    }

    fn recognises(&self, path: &Path, head: &[u8]) -> bool {
        let arrays = || archive(path).is_ok_and(|zip| zip.file_names().flatten().any(|name| name.ends_with(ENDING)));
        path.extension().is_some_and(|ending| ending == "npz") || (head.starts_with(b"PK") && arrays())
    }

    fn open(&self, path: &Path) -> Result<Vec<Portion>> {
        let (mut labels, images): (Vec<_>, Vec<_>) = arrays(path)?.into_iter().partition(Numbers::is_labels);
        if images.is_empty() {
            ensure!(!labels.is_empty(), "it has no array of images");
            return belongs_to_images(path);
        }
        if let (true, Some(beside)) = (labels.is_empty(), partner::labels_of(path)) {
            let found = arrays(&beside).with_context(|| beside.display().to_string())?;
            labels.extend(found.into_iter().filter(Numbers::is_labels));
        }
        pair(path, images, labels)
    }

    #[cfg(test)]
    fn example(&self, folder: &Path, images: &[Digit], labels: &[u8]) -> std::path::PathBuf {
        use std::io::Write;
        let path = folder.join("train.npz");
        let mut zip = zip::ZipWriter::new(File::create(&path).expect("a temporary folder takes it"));
        for (name, shape, data) in [
            ("x.npy", format!("{}, 28, 28", images.len()), images.as_flattened()),
            ("y.npy", format!("{},", labels.len()), labels),
        ] {
            zip.start_file(name, zip::write::SimpleFileOptions::default()).expect("names are distinct");
            zip.write_all(&npy("|u1", &shape, data)).expect("a temporary folder takes it");
        }
        zip.finish().expect("a temporary folder takes it");
        path
    }
}

/// The arrays in an archive.
fn arrays(path: &Path) -> Result<Vec<Numbers>> {
    let mut zip = archive(path)?;
    let (mut arrays, mut left) = (Vec::new(), MAX_BYTES);
    let names: Vec<String> = zip.file_names().flatten().map(|name| name.to_string()).collect();
    for name in names {
        let Some(key) = name.strip_suffix(ENDING).map(String::from) else { continue };
        let damaged = || format!("its array {key} is damaged or cut short");
        let bytes = limited(zip.by_name(&name).with_context(damaged)?, left).with_context(damaged)?;
        left -= bytes.len() as u64;
        let numbers = Numbers::of(bytes).with_context(|| format!("its array {}", key.escape_debug()))?;
        arrays.push(Numbers { key, ..numbers });
    }
    Ok(arrays)
}

/// No portion: the labels in `path` are read with their images.
fn belongs_to_images(path: &Path) -> Result<Vec<Portion>> {
    ensure!(partner::images_of(path).is_some(), "it holds labels, and the file with their images is not beside it");
    Ok(Vec::new())
}

/// One array of images.
pub(super) struct Npy;

impl Form for Npy {
    fn about(&self) -> &'static str {
        "images and labels in a file each: `x_train.npy` and `y_train.npy`, `images.npy` and `labels.npy`"
    }

    fn noun(&self) -> &'static str {
        "a .npy file"
    }

    fn title(&self) -> &'static str {
        ".npy"
    }

    fn recognises(&self, _: &Path, head: &[u8]) -> bool {
        head.starts_with(MAGIC)
    }

    fn open(&self, path: &Path) -> Result<Vec<Portion>> {
        let array = |path: &Path| Numbers::of(limited(unpacked(path)?, MAX_BYTES)?);
        let numbers = array(path)?;
        // 784 numbers are an image, unless they are labels.
        if numbers.is_labels() && (numbers.images().is_err() || partner::images_of(path).is_some()) {
            return belongs_to_images(path);
        }
        let beside = partner::labels_of(path);
        let labels = beside.map(|beside| array(&beside).with_context(|| beside.display().to_string())).transpose()?;
        Ok(vec![portion(path, part_of_file(path), numbers, labels)?])
    }

    #[cfg(test)]
    fn example(&self, folder: &Path, images: &[Digit], labels: &[u8]) -> std::path::PathBuf {
        let put = |name: &str, shape: String, data: &[u8]| {
            std::fs::write(folder.join(name), npy("|u1", &shape, data)).expect("a temporary folder takes it");
            folder.join(name)
        };
        put("train-labels.npy", format!("{},", labels.len()), labels);
        put("train-images.npy", format!("{}, 784", images.len()), images.as_flattened())
    }
}

fn archive(path: &Path) -> Result<ZipArchive<File>> {
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    ZipArchive::with_config(config, File::open(path)?).context("it is damaged or cut short")
}

fn limited(input: impl Read, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(limit + 1).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 <= limit, "the file's arrays take more than {} GiB", MAX_BYTES >> 30);
    Ok(bytes)
}

/// An array: its name in the archive, its shape, and its numbers in C order.
struct Numbers {
    key: String,
    shape: Vec<usize>,
    values: Values,
}

enum Values {
    Bytes(Vec<u8>),
    /// Floats, and integers of more than a byte.
    Numbers(Vec<f32>),
    /// Labels that are names.
    Texts(Vec<String>),
}

impl Numbers {
    fn of(mut file: Vec<u8>) -> Result<Numbers> {
        let Array { dtype, fortran_order, shape, data } = Array::parse(&file)?;
        ensure!(
            !fortran_order || shape.len() < 2,
            "it is in Fortran order: save numpy.ascontiguousarray(array) instead"
        );
        let values = match dtype.as_str() {
            // Without a copy.
            "u1" => Values::Bytes(file.split_off(file.len() - data.len())),
            dtype => Values::of(dtype, data)?,
        };
        let count = shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size));
        ensure!(count == Some(values.len()), "it is cut short: it has {} numbers, not {shape:?}", values.len());
        Ok(Numbers { key: String::new(), shape, values })
    }

    /// Whether it holds a number per image, or a number per class for each image (one-hot).
    fn is_labels(&self) -> bool {
        self.shape.len() < 2 || (self.shape.len() == 2 && self.shape[1] <= CLASSES)
    }

    fn into_labels(self) -> Result<Vec<String>> {
        let labels: Vec<f32> = match self.values {
            Values::Bytes(bytes) => bytes.into_iter().map(f32::from).collect(),
            Values::Numbers(numbers) => numbers,
            Values::Texts(texts) => {
                ensure!(self.shape.iter().skip(1).all(|&size| size == 1), "its labels are several texts each");
                return Ok(texts);
            }
        };
        match self.shape[..] {
            [_, classes] if classes > 1 => {
                let hot = |(k, label): (usize, &[f32])| hot(label).with_context(|| format!("label {k}"));
                labels.chunks(classes).enumerate().map(hot).collect()
            }
            _ => Ok(labels.iter().map(f32::to_string).collect()),
        }
    }

    /// How many images it holds: its shape is [N, 28, 28], [N, 784], with a channel or without, or that of one image.
    fn images(&self) -> Result<usize> {
        match self.shape[..] {
            [PIXELS] | [SIDE, SIDE] => Ok(1),
            [count, PIXELS] | [count, SIDE, SIDE] | [count, SIDE, SIDE, 1] | [count, 1, SIDE, SIDE] => Ok(count),
            _ => bail!("its shape is {:?}; [N, {SIDE}, {SIDE}] or [N, {PIXELS}] is expected", self.shape),
        }
    }
}

impl Values {
    fn of(dtype: &str, data: &[u8]) -> Result<Values> {
        fn all<const N: usize>(data: &[u8], read: fn([u8; N]) -> f32) -> Vec<f32> {
            data.chunks_exact(N).map(|bytes| read(bytes.try_into().expect("chunks of N bytes"))).collect()
        }
        Ok(match dtype {
            // True is white.
            "b1" => Values::Bytes(data.iter().map(|&bit| if bit == 0 { 0 } else { 255 }).collect()),
            "i1" => Values::Numbers(all(data, |bytes| f32::from(i8::from_le_bytes(bytes)))),
            "u2" => Values::Numbers(all(data, |bytes| f32::from(u16::from_le_bytes(bytes)))),
            "i2" => Values::Numbers(all(data, |bytes| f32::from(i16::from_le_bytes(bytes)))),
            "u4" => Values::Numbers(all(data, |bytes| u32::from_le_bytes(bytes) as f32)),
            "i4" => Values::Numbers(all(data, |bytes| i32::from_le_bytes(bytes) as f32)),
            "u8" => Values::Numbers(all(data, |bytes| u64::from_le_bytes(bytes) as f32)),
            "i8" => Values::Numbers(all(data, |bytes| i64::from_le_bytes(bytes) as f32)),
            "f2" => Values::Numbers(all(data, |bytes| f16::from_le_bytes(bytes).to_f32())),
            "f4" => Values::Numbers(all(data, f32::from_le_bytes)),
            "f8" => Values::Numbers(all(data, |bytes| f64::from_le_bytes(bytes) as f32)),
            // A text of a label: bytes, or 32-bit characters.
            text => match (text.get(..1), text.get(1..).and_then(|length| length.parse::<u16>().ok())) {
                (Some("S"), Some(length @ 1..)) => {
                    Values::Texts(texts(data, length.into(), 1, |byte| Some(byte[0].into())))
                }
                (Some("U"), Some(length @ 1..)) => Values::Texts(texts(data, 4 * usize::from(length), 4, wide_letter)),
                _ => bail!("its dtype is {}: {EXPECTED}", name_of(text)),
            },
        })
    }

    fn len(&self) -> usize {
        match self {
            Values::Bytes(bytes) => bytes.len(),
            Values::Numbers(numbers) => numbers.len(),
            Values::Texts(texts) => texts.len(),
        }
    }

    fn into_pixels(self, whose: &Path) -> Result<Vec<u8>> {
        let numbers = match self {
            // Bytes of other tones are settled with those of all forms.
            Values::Bytes(bytes) => return Ok(bytes),
            Values::Numbers(numbers) => numbers,
            Values::Texts(_) => bail!("it holds text, not images"),
        };
        let scale = Survey::of(numbers.iter().copied()).scale(whose.display())?;
        let pixel = |&number: &f32| {
            scale.pixel(number).with_context(|| format!("it has the number {number}; {} is expected", scale.expected()))
        };
        numbers.iter().map(pixel).collect()
    }
}

/// NumPy's texts of `width` bytes each, of which `letter` reads one from every `size` bytes; zeros fill a text up.
fn texts(data: &[u8], width: usize, size: usize, letter: fn(&[u8]) -> Option<char>) -> Vec<String> {
    let text = |bytes: &[u8]| bytes.chunks_exact(size).map_while(letter).take_while(|&letter| letter != '\0').collect();
    data.chunks_exact(width).map(text).collect()
}

/// A number of four bytes as a character.
fn wide_letter(bytes: &[u8]) -> Option<char> {
    char::from_u32(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// What NumPy calls a dtype that is not read, of which a file has the code.
fn name_of(dtype: &str) -> String {
    let name = match dtype {
        "O" => "object",
        "c8" => "complex64",
        "c16" => "complex128",
        "f16" => "longdouble",
        other => return other.escape_debug().to_string(),
    };
    name.into()
}

/// The class of a one-hot label.
fn hot(label: &[f32]) -> Result<String> {
    // True is read as white, for images.
    let is_one = |number: &f32| [1.0, 255.0].contains(number);
    let is_one_hot = label.iter().filter(|number| **number != 0.0).count() == 1;
    let class = label.iter().position(is_one).filter(|_| is_one_hot);
    class.map(|class| class.to_string()).with_context(|| {
        let numbers: Vec<String> = label.iter().map(f32::to_string).collect();
        format!("it is not one 1 among zeros but {}: save numpy.argmax(labels, axis=1)", numbers.join(" "))
    })
}

/// A portion per array of images, with the labels of the same part and length.
fn pair(path: &Path, images: Vec<Numbers>, mut labels: Vec<Numbers>) -> Result<Vec<Portion>> {
    let mut portions = Vec::new();
    for images in images {
        let key = images.key.clone();
        let of_part = |labels: &&Numbers| part_of(&labels.key) == part_of(&key);
        let count = images.shape.first();
        // The likeliest array of labels; names of the classes may be there too.
        let fits = |labels: &&Numbers| (labels.shape.first() == count, is_named_labels(&labels.key));
        let best = labels.iter().enumerate().filter(|(_, labels)| of_part(labels));
        let at = best.rev().max_by_key(|(_, labels)| fits(labels)).map(|(at, _)| at);
        let part = part_of(&key).or_else(|| part_of_file(path));
        portions.push(portion(path, part, images, at.map(|at| labels.swap_remove(at)))?);
    }
    Ok(portions)
}

fn is_named_labels(key: &str) -> bool {
    key.to_lowercase().split(|letter: char| !letter.is_alphabetic()).any(|word| LABELS.contains(&word))
}

/// `result`, whose error says which array of an archive it is about.
fn of_array<T>(key: &str, result: Result<T>) -> Result<T> {
    match key {
        "" => result,
        key => result.with_context(|| format!("its array {}", key.escape_debug())),
    }
}

fn portion(path: &Path, part: Option<Part>, images: Numbers, labels: Option<Numbers>) -> Result<Portion> {
    let count = of_array(&images.key, images.images())?;
    let read = |labels: Numbers| {
        let (found, key) = (labels.shape.first().copied().unwrap_or(1), labels.key.escape_debug().to_string());
        let beside = if key.is_empty() { "the file beside it" } else { &key };
        let is_complete = || -> Result<()> {
            ensure!(found == count, "it has {count} images, but {beside} has {found} labels");
            Ok(())
        };
        of_array(&images.key, is_complete())?;
        let labels = of_array(&key, labels.into_labels());
        if key.is_empty() { labels.context(beside.to_string()) } else { labels }
    };
    let labels = labels.map(read).transpose()?;
    let labelled = labels.is_some();
    let (key, bytes) = (images.key.clone(), of_array(&images.key, images.values.into_pixels(path))?);
    let records: Records = Box::new((0..count).map(move |k| {
        let digit = bytes[k * PIXELS..(k + 1) * PIXELS].try_into().expect("the shape was checked");
        let place = if key.is_empty() { format!("image {k}") } else { format!("{key}[{k}]") };
        let label = labels.as_ref().map(|labels| labels[k].clone());
        Ok(Record { place, label, image: Image::Pixels(Box::new(digit)) })
    }));
    let count = Some(count as u64);
    Ok(Portion { path: path.to_path_buf(), part, count, labelled, classes: None, transposed: false, records })
}

/// A `.npy` file.
#[cfg(test)]
fn npy(dtype: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let text = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({shape}), }}");
    [MAGIC, &[1, 0], &(text.len() as u16).to_le_bytes(), text.as_bytes(), data].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Vec<Record>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        std::fs::write(&path, bytes).unwrap();
        Npy.open(&path)?.into_iter().flat_map(|portion| portion.records).collect()
    }

    #[test]
    fn numbers_of_every_type_are_the_same_pixels() {
        let bytes: Vec<u8> = (0..2 * PIXELS).map(|k| (k % 256) as u8).collect();
        let files = [
            npy("|u1", "2, 28, 28", &bytes),
            npy("<i8", "2, 784", &bytes.iter().flat_map(|&b| i64::from(b).to_le_bytes()).collect::<Vec<_>>()),
            npy(
                "<f4",
                "2, 28, 28, 1",
                &bytes.iter().flat_map(|&b| (f32::from(b) / 255.).to_le_bytes()).collect::<Vec<_>>(),
            ),
            npy(
                "<f2",
                "2, 784",
                &bytes.iter().flat_map(|&b| f16::from_f32(b.into()).to_le_bytes()).collect::<Vec<_>>(),
            ),
            npy("<f8", "2, 1, 28, 28", &bytes.iter().flat_map(|&b| f64::from(b).to_le_bytes()).collect::<Vec<_>>()),
        ];
        for file in files {
            let pixels: Vec<u8> = read(&file)
                .unwrap()
                .iter()
                .flat_map(|record| match &record.image {
                    Image::Pixels(digit) => digit.to_vec(),
                    _ => panic!(),
                })
                .collect();
            assert!(pixels == bytes);
        }
    }

    #[test]
    fn what_is_not_an_array_of_images_is_refused() {
        for (file, sentence) in [
            (npy("|u1", "1, 32, 32", &[0; 1024]), "its shape is [1, 32, 32]; [N, 28, 28] or [N, 784] is expected"),
            (npy("|u1", "2, 784", &[0; 784]), "it is cut short: it has 784 numbers, not [2, 784]"),
            (
                npy("<i2", "1, 784", &[0xfe, 0xff].repeat(784)),
                "its pixels go from -2 to -2; 0 to 255, 0 to 1, or MNIST's standardised with mean 0.1307 and deviation \
                 0.3081 are expected",
            ),
            (npy("<c8", "1, 784", &[]), "its dtype is complex64: save array.astype('float32'), or labels.astype(str)"),
            (npy("|O", "1, 784", &[]), "its dtype is object: save array.astype('float32'), or labels.astype(str)"),
            (npy("", "1, 784", &[]), "its dtype is : save array.astype('float32'), or labels.astype(str)"),
            (npy("<U1", "1, 784", &[65, 0, 0, 0].repeat(784)), "it holds text, not images"),
        ] {
            assert_eq!(format!("{:#}", read(&file).err().unwrap()), sentence);
        }
    }

    /// The labels in an .npz file of a dark and a light image, with labels of this type, shape and these bytes.
    fn labels(dtype: &str, shape: &str, data: &[u8]) -> Result<Vec<String>> {
        use std::io::Write;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
        let names = [67, 0, 0, 0].repeat(3);
        let images = [[0; PIXELS], [255; PIXELS]];
        for file in [
            ("class_names.npy", npy("<U1", "3,", &names)),
            ("x_train.npy", npy("|u1", "2, 784", images.as_flattened())),
            ("y_train.npy", npy(dtype, shape, data)),
        ] {
            zip.start_file(file.0, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(&file.1).unwrap();
        }
        zip.finish().unwrap();
        let records = Npz.open(&path)?.into_iter().flat_map(|portion| portion.records);
        records.map(|record| Ok(record?.label.unwrap())).collect()
    }

    #[test]
    fn labels_may_be_numbers_text_or_one_hot() {
        let wide: Vec<u8> =
            "sechs\u{e4}\0\0\0\0\0".chars().flat_map(|letter| u32::from(letter).to_le_bytes()).collect();
        assert_eq!(labels("|u1", "2,", &[3, 4]).unwrap(), ["3", "4"]);
        assert_eq!(labels("|S3", "2,", b"catox\0").unwrap(), ["cat", "ox"]);
        assert_eq!(labels("<U5", "2,", &wide[..40]).unwrap(), ["sechs", "\u{e4}"]);
        assert_eq!(labels("|b1", "2, 2", &[0, 1, 1, 0]).unwrap(), ["1", "0"]);
        assert_eq!(labels("|u1", "2, 3", &[0, 0, 1, 1, 0, 0]).unwrap(), ["2", "0"]);
    }

    #[test]
    fn a_sentence_on_labels_names_their_array() {
        let smooth: Vec<u8> = [0.1f32, 0.9, 0.9, 0.1].iter().flat_map(|number| number.to_le_bytes()).collect();
        for (dtype, shape, data, sentence) in [
            (
                "<f4",
                "2, 2",
                &smooth[..],
                "its array y_train: label 0: it is not one 1 among zeros but 0.1 0.9: save numpy.argmax(labels, axis=1)",
            ),
            ("|u1", "3,", &[1, 2, 3], "its array x_train: it has 2 images, but y_train has 3 labels"),
            (
                "|O",
                "2,",
                &[1],
                "its array y_train: its dtype is object: save array.astype('float32'), or labels.astype(str)",
            ),
        ] {
            assert_eq!(format!("{:#}", labels(dtype, shape, data).err().unwrap()), sentence);
        }
    }

    proptest! {
        #[test]
        fn any_array_is_read_or_refused(shape in "[0-9, ]{0,12}", dtype in "[<|>]?[uifbUSOc]?[0-9]{0,2}", length in 0usize..2000) {
            if let Ok(records) = read(&npy(&dtype, &shape, &vec![1; length])) {
                prop_assert!(records.len() <= length);
            }
        }
    }
}
