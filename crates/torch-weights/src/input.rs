//! A file that is read, and those beside it.

use crate::MAX_BYTES;
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// A file that is read.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// What is in it.
    pub bytes: &'a [u8],
    /// The folder that it is in, if others in it may be read.
    pub folder: Option<&'a Path>,
}

impl Input<'_> {
    /// The bytes of the file of this name beside it, at most `limit`.
    pub(crate) fn beside(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let folder = self.folder.with_context(|| format!("it needs the file {} beside it", name.escape_debug()))?;
        // A file that came from elsewhere names none outside of its folder.
        let is_inside =
            Path::new(name).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        ensure!(is_inside, "it names {}, which is not in its folder", name.escape_debug());
        read_file(&folder.join(name), limit).with_context(|| format!("the file {} beside it", name.escape_debug()))
    }
}

/// The bytes of a regular file of at most `limit` bytes.
pub fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>> {
    // Before opening it: opening a pipe would wait for its other end.
    let metadata = std::fs::metadata(path)?;
    ensure!(metadata.is_file(), "it is not a regular file");
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 <= limit, "it has more than {} MiB, the most that is read as weights", MAX_BYTES >> 20);
    Ok(bytes)
}

/// The files by which the weights in a folder are found, the first of them that is there: those of a folder that a
/// training run or a library left.
const IN_FOLDERS: [&str; 5] = [
    "model.pt",
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
];

/// At most this many files of a folder are named.
const LISTED: usize = 3;

/// The file of weights in the folder `path`; `path` itself if it is a file.
///
/// # Errors
///
/// If a folder has none under a usual name.
pub fn locate(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_path_buf());
    }
    let found = IN_FOLDERS.iter().map(|name| path.join(name)).find(|file| file.is_file());
    found.with_context(|| {
        let others = weights_in(path);
        let names = if others.is_empty() { String::new() } else { format!(", such as {}", others.join(", ")) };
        format!(
            "{} cannot be read as weights: it is a folder without {}; name a file in it{names}",
            path.display(),
            IN_FOLDERS[0]
        )
    })
}

/// What to do if `path` is one of the files that an index names, such as `model-00001-of-00002.safetensors`.
pub(crate) fn part_of_several(path: &Path) -> Option<String> {
    let (stem, ending) = path.file_name()?.to_str()?.split_once('.')?;
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (name, _) = rest.rsplit_once('-')?;
    let count: u32 = count.parse().ok()?;
    let index = format!("{name}.{ending}.index.json");
    Some(match path.with_file_name(&index).is_file() {
        true => format!("it is one of {count} files: name {index}"),
        false => format!("it is one of {count} files, and {index} that says what is in which is missing beside it"),
    })
}

/// The file whose data `path` has, as torch.onnx.export writes `model.onnx.data` beside `model.onnx`.
pub(crate) fn beside(path: &Path) -> Option<PathBuf> {
    let owner = path.with_extension("");
    (path.extension()? == "data" && owner.is_file()).then_some(owner)
}

/// The names of the files in `folder` that are weights, by their endings and by what is in them.
fn weights_in(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_weights = |name: &String| crate::Format::named(Path::new(name)).is_some();
    let mut names: Vec<String> =
        names.map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(is_weights).collect();
    names.sort();
    names.retain(|name| std::fs::read(folder.join(name)).is_ok_and(|bytes| crate::Format::of(&bytes).is_ok()));
    names.truncate(LISTED);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_no_other_outside_of_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("inner")).unwrap();
        std::fs::write(folder.path().join("secret"), "x").unwrap();
        std::fs::write(folder.path().join("inner/data"), "y").unwrap();
        let inner = folder.path().join("inner");
        let input = Input { bytes: b"", folder: Some(&inner) };
        assert_eq!(input.beside("data", 1).unwrap(), b"y");
        let absolute = folder.path().join("secret");
        for name in ["../secret", absolute.to_str().unwrap(), "./../secret"] {
            let error = input.beside(name, 1).unwrap_err().to_string();
            assert!(error.ends_with("which is not in its folder"), "{error}");
        }
        let alone = Input { bytes: b"", folder: None };
        assert_eq!(alone.beside("data", 1).unwrap_err().to_string(), "it needs the file data beside it");
    }

    #[test]
    fn the_data_of_a_file_name_that_file() {
        let folder = tempfile::tempdir().unwrap();
        let [onnx, data] = ["model.onnx", "model.onnx.data"].map(|name| folder.path().join(name));
        std::fs::write(&data, [0; 64]).unwrap();
        let sentence = || format!("{:#}", crate::open(&data).unwrap_err());
        assert!(sentence().contains("it has none of the formats"), "{}", sentence());
        std::fs::write(&onnx, "").unwrap();
        assert!(sentence().ends_with("model.onnx: name that file"), "{}", sentence());
    }

    #[test]
    fn a_file_of_several_names_its_index() {
        let folder = tempfile::tempdir().unwrap();
        let hint = |name: &str| part_of_several(&folder.path().join(name));
        let missing = hint("model-00001-of-00002.safetensors").unwrap();
        assert!(missing.ends_with("model.safetensors.index.json that says what is in which is missing beside it"));
        std::fs::write(folder.path().join("model.safetensors.index.json"), "{}").unwrap();
        let expected = Some("it is one of 2 files: name model.safetensors.index.json".to_string());
        assert_eq!(hint("model-00001-of-00002.safetensors"), expected);
        assert_eq!(hint("model.safetensors"), None);
        assert_eq!(hint("king-of-hearts.pth"), None);
    }

    #[test]
    fn a_folder_stands_for_the_weights_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let error = locate(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("it is a folder without model.pt; name a file in it"), "{error}");
        for (name, expected) in [
            ("checkpoint.safetensors", None),
            ("pytorch_model.bin", Some("pytorch_model.bin")),
            ("model.safetensors.index.json", Some("model.safetensors.index.json")),
            ("model.pt", Some("model.pt")),
        ] {
            // An empty dict, as safetensors has it.
            std::fs::write(folder.path().join(name), b"\x02\0\0\0\0\0\0\0{}").unwrap();
            match expected {
                Some(expected) => assert_eq!(locate(folder.path()).unwrap(), folder.path().join(expected)),
                None => {
                    let error = locate(folder.path()).unwrap_err().to_string();
                    assert!(error.ends_with("name a file in it, such as checkpoint.safetensors"), "{error}");
                }
            }
        }
    }
}
