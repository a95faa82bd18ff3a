//! Images in one file and their labels in another beside it: `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`,
//! `kmnist-train-imgs.npz` and `kmnist-train-labels.npz`, `x_test.npy` and `y_test.npy`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Words for images and for labels in the names of files.
const IMAGES: [&str; 6] = ["images", "imgs", "image", "img", "x", "data"];
const LABELS: [&str; 7] = ["labels", "label", "targets", "target", "y", "classes", "lbls"];

/// Words that only say how numbers are stored: they differ between images and labels.
const STORAGE: [&str; 6] = ["idx1", "idx2", "idx3", "ubyte", "int", "gz"];

/// The file with the labels of the images in `images`.
pub(super) fn labels_of(images: &Path) -> Option<PathBuf> {
    find(images, &IMAGES, &LABELS)
}

/// The file with the images of the labels in `labels`.
pub(super) fn images_of(labels: &Path) -> Option<PathBuf> {
    find(labels, &LABELS, &IMAGES)
}

/// The file beside `path` whose name differs only in one of the words `theirs` for one of the words `own`.
fn find(path: &Path, own: &[&str], theirs: &[&str]) -> Option<PathBuf> {
    let name = path.file_name()?;
    let wanted = without(name, own)?;
    let folder = path.parent()?;
    // Kaggle's archive has each file in a folder of its name.
    let above = folder.parent().filter(|_| folder.file_name() == Some(name));
    let nested = above.into_iter().flat_map(entries).map(|entry| entry.join(entry.file_name().unwrap_or_default()));
    let fits =
        |path: &PathBuf| path.is_file() && path.file_name().and_then(|it| without(it, theirs)) == Some(wanted.clone());
    // Of a file that is there gzipped and unpacked, the latter, whose name is shorter.
    entries(folder).into_iter().chain(nested).filter(fits).min_by_key(|path| path.as_os_str().len())
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries
}

/// The words of a file's name without the one of `words` in it; `None` if there is no such word.
fn without(name: &OsStr, words: &[&str]) -> Option<Vec<String>> {
    let name = name.to_str()?.to_lowercase();
    let all = name.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !STORAGE.contains(word));
    let mut rest: Vec<String> = all.map(String::from).collect();
    let at = rest.iter().position(|word| words.contains(&word.as_str()))?;
    rest.remove(at);
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_and_labels_find_each_other_by_their_names() {
        for (images, labels) in [
            ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
            ("t10k-images.idx3-ubyte.gz", "t10k-labels.idx1-ubyte"),
            ("qmnist-test-images-idx3-ubyte", "qmnist-test-labels-idx2-int.gz"),
            ("kmnist-train-imgs.npz", "kmnist-train-labels.npz"),
            ("x_test.npy", "y_test.npy"),
            ("images.npy", "labels.npy"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            for name in [images, labels, "other-labels-idx1-ubyte", "y_train.npy", "labels.txt"] {
                std::fs::write(folder.path().join(name), "").unwrap();
            }
            assert_eq!(labels_of(&folder.path().join(images)), Some(folder.path().join(labels)));
            assert_eq!(images_of(&folder.path().join(labels)), Some(folder.path().join(images)));
            assert_eq!(labels_of(&folder.path().join("notes.npy")), None);
        }
    }
}
