//! What to do about data that no form takes.

use super::folder::{is_picture, pictures, subfolders};
use super::{head, part_of, titles};
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// Kinds of files that people have data in: their first bytes, what they are called, and what to do.
const KINDS: [(&[u8], &str, &str); 5] = [
    (b"PK\x03\x04", "a zip archive", "unpack it and import what is in it"),
    (b"\x80", "a pickle", SAVE_ARRAYS),
    (b"\x89HDF", "an HDF5 file", SAVE_ARRAYS),
    (b"MATLAB", "a MATLAB file", SAVE_ARRAYS),
    (b"\xfd7zXZ", "an .xz archive", "unpack it and import what is in it"),
];

const SAVE_ARRAYS: &str = "save its arrays by numpy.savez('data.npz', x_train=images, y_train=labels) and import that";

/// Where a tar archive says that it is one.
const TAR: (usize, &[u8]) = (257, b"ustar");

/// What `path` is instead, and what to do, to follow the name of the path.
pub(crate) fn advice(path: &Path) -> String {
    let known = if path.is_dir() { of_folder(path) } else { of_file(path) };
    known.unwrap_or_else(|| format!("it is not data in a format that can be read: {}", titles()))
}

fn of_file(path: &Path) -> Option<String> {
    let head = head(path).ok()?;
    if is_of_torch(path, &head) {
        return Some(format!("it is a file of torch.save: {SAVE_ARRAYS}"));
    }
    let is_tar = head.get(TAR.0..).is_some_and(|rest| rest.starts_with(TAR.1));
    let tar = is_tar.then_some(("a tar archive", "unpack it and import what is in it"));
    let kind = || KINDS.iter().find(|(magic, ..)| head.starts_with(magic)).map(|&(_, noun, remedy)| (noun, remedy));
    tar.or_else(kind).map(|(noun, remedy)| format!("it is {noun}: {remedy}"))
}

/// Whether a file is of `torch.save`: a zip archive with a pickle, whose name ends so in its first entry.
fn is_of_torch(path: &Path, head: &[u8]) -> bool {
    let is_archive = head.starts_with(b"PK") && head.windows(8).take(512).any(|window| window == b"data.pkl");
    let is_named = path.extension().is_some_and(|ending| ending == "pt" || ending == "pth");
    is_archive || (is_named && head.starts_with(b"\x80"))
}

/// The files of a folder, by name.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.is_file()).collect();
    files.sort();
    files
}

/// The name of a file in the folder that may have the labels of pictures in it.
pub(super) fn table_of_labels(folder: &Path) -> Option<String> {
    let is_table =
        |file: &PathBuf| file.extension().is_some_and(|it| ["csv", "tsv", "txt", "json"].iter().any(|&e| it == e));
    let table = files(folder).into_iter().find(is_table)?;
    Some(table.file_name()?.display().to_string())
}

fn of_folder(path: &Path) -> Option<String> {
    if !WalkDir::new(path).into_iter().flatten().any(|entry| !entry.file_type().is_dir()) {
        return Some(format!("it is empty: {} are expected", titles()));
    }
    let table = table_of_labels(path);
    let is_flat = |folder: &Path| files(folder).iter().any(|file| is_picture(file));
    let folders = subfolders(path).ok()?;
    // Pictures of all classes together, as `images` or `train` has them where a table has the labels.
    let flat = |(name, folder): &&(String, PathBuf)| is_flat(folder) && (table.is_some() || part_of(name).is_some());
    let below = folders.iter().find(flat).map(|(name, _)| format!(" in {name}"));
    if let Some(place) = if is_flat(path) { Some(String::new()) } else { below } {
        let also = table.map_or(String::new(), |table| format!(" and {table}"));
        return Some(format!(
            "it holds pictures{place}{also}, but no subfolder per class: put each picture into a subfolder named after its class and \
             import the folder"
        ));
    }
    // torchvision kept the tensors in MNIST/processed.
    let places = [path.to_path_buf(), path.join("processed"), path.join("MNIST/processed")];
    let tensors =
        places.iter().flat_map(|place| files(place)).find(|file| head(file).is_ok_and(|head| is_of_torch(file, &head)));
    if let Some(file) = tensors {
        let name = file.file_name().unwrap_or_default().display().to_string();
        return Some(format!("it holds {name}, a file of torch.save: {SAVE_ARRAYS}"));
    }
    let mut classes = folders.into_iter().filter(|(_, folder)| pictures(folder).next().is_some());
    let (name, _) = classes.next()?;
    classes.next().is_none().then(|| format!("it holds pictures of one class, {name}: at least two are needed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_classes_gets_its_sentence() {
        let subfolders =
            "but no subfolder per class: put each picture into a subfolder named after its class and import the folder";
        let flat = |place: &str| format!("it holds pictures{place}, {subfolders}");
        for (files, expected) in [
            (&[][..], format!("it is empty: {} are expected", titles())),
            (&["0/", "1/"], format!("it is empty: {} are expected", titles())),
            (&["a.png"], flat("")),
            (&["a.png", "labels.csv"], flat(" and labels.csv")),
            (&["images/a.png", "labels.csv"], flat(" in images and labels.csv")),
            (&["train/a.png", "test/b.png", "train.csv"], flat(" in test and train.csv")),
            (&["train/a.png", "test/b.png"], flat(" in test")),
            (&["7/a.png"], "it holds pictures of one class, 7: at least two are needed".into()),
            (&["notes.txt"], format!("it is not data in a format that can be read: {}", titles())),
        ] {
            let folder = tempfile::tempdir().unwrap();
            for file in files {
                let path = folder.path().join(file);
                std::fs::create_dir_all(if file.ends_with('/') { &path } else { path.parent().unwrap() }).unwrap();
                if !file.ends_with('/') {
                    std::fs::write(path, "").unwrap();
                }
            }
            assert_eq!(advice(folder.path()), expected, "{files:?}");
        }
    }
}
