//! Folders: with files of other forms, as Kaggle, torchvision and Hugging Face leave them, or with pictures in a
//! subfolder per class, as torchvision's `ImageFolder` takes them.

use super::{FORMS, Form, Image, Portion, Record, advice, csv, head, open, part_of};
use crate::data::{Dataset, Info, Part};
use crate::digit;
#[cfg(test)]
use crate::digit::Digit;
use anyhow::{Result, anyhow, ensure};
use std::collections::{BTreeMap, HashSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use walkdir::{DirEntry, WalkDir};

/// Where torchvision keeps files below its root, beside those of the program's own datasets.
const TORCHVISION: [&str; 2] = ["raw", "EMNIST/raw"];

/// Any of them.
pub(super) struct Folder;

impl Form for Folder {
    fn about(&self) -> &'static str {
        "a subfolder per class, below `train` and `test` (or `training` and `testing`), or alone; PNG, JPEG \
         and all that `predict` reads; or a folder with files of the other forms"
    }

    fn noun(&self) -> &'static str {
        "a folder of data in another form"
    }

    fn title(&self) -> &'static str {
        "pictures in a folder per class"
    }

    fn recognises(&self, path: &Path, _: &[u8]) -> bool {
        path.is_dir() && (tables(path).is_ok_and(|it| !it.is_empty()) || has_classes(path))
    }

    fn open(&self, path: &Path) -> Result<Vec<Portion>> {
        if let Some(raw) = raw(path) {
            return open(&raw);
        }
        let mut portions = Vec::new();
        for table in tables(path)? {
            portions.extend(open(&table)?);
        }
        if !portions.is_empty() {
            return Ok(portions);
        }
        let parts: Vec<_> = subfolders(path)?.into_iter().filter(|(name, _)| part_of(name).is_some()).collect();
        if parts.is_empty() {
            return Ok(vec![of_classes(path, None)?]);
        }
        parts.iter().map(|(name, folder)| of_classes(folder, part_of(name))).collect()
    }

    #[cfg(test)]
    fn example(&self, folder: &Path, images: &[Digit], labels: &[u8]) -> PathBuf {
        for (k, (image, label)) in images.iter().zip(labels).enumerate() {
            let class = folder.join(label.to_string());
            std::fs::create_dir_all(&class).expect("a temporary folder takes it");
            // PNM has no compression.
            let bytes = [b"P5 28 28 255\n".as_slice(), image].concat();
            std::fs::write(class.join(format!("{k}.pgm")), bytes).expect("a temporary folder takes it");
        }
        folder.to_path_buf()
    }
}

/// The folder with the files, below torchvision's root.
pub(super) fn raw(path: &Path) -> Option<PathBuf> {
    let holds_tables = |folder: &PathBuf| tables_in(folder).is_ok_and(|tables| !tables.is_empty());
    let own = Dataset::all().map(|dataset| dataset.facts().torchvision);
    TORCHVISION.into_iter().chain(own).map(|below| path.join(below)).find(holds_tables)
}

/// The files of other forms in a folder, and in those below it that are named after a part.
fn tables(path: &Path) -> Result<Vec<PathBuf>> {
    let mut found = tables_in(path)?;
    for (_, folder) in subfolders(path)?.iter().filter(|(name, _)| part_of(name).is_some()) {
        found.extend(tables_in(folder)?);
    }
    // A file in a folder of its own name is found from both.
    let mut seen = HashSet::new();
    found.retain(|path| seen.insert(path.clone()));
    Ok(found)
}

/// The files of other forms in a folder, by name. Pictures are not among them.
fn tables_in(path: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let mut path = entry?.path();
        // Kaggle's archive has each file in a folder of its name.
        let nested = path.join(path.file_name().unwrap_or_default());
        if nested.is_file() {
            path = nested;
        }
        let is_hidden = path.file_name().unwrap_or_default().to_string_lossy().starts_with('.');
        if is_hidden || !path.is_file() || is_picture(&path) {
            continue;
        }
        // A file that cannot be read is not a table.
        let Ok(head) = head(&path) else { continue };
        let form = FORMS.iter().find(|form| form.recognises(&path, &head));
        let is_other = |form: &dyn Form| form.noun() == csv::Csv.noun() && !csv::has_images(&head);
        if form.is_some_and(|form| !is_other(*form)) {
            found.push(path);
        }
    }
    found.sort();
    // torchvision keeps each file gzipped and unpacked.
    let is_copy =
        |path: &PathBuf| path.extension().is_some_and(|it| it == "gz") && found.contains(&path.with_extension(""));
    Ok(found.iter().filter(|path| !is_copy(path)).cloned().collect())
}

pub(super) fn is_picture(path: &Path) -> bool {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    digit::ENDINGS.contains(&ending.as_str())
}

/// The subfolders by name, hidden ones left out.
pub(super) fn subfolders(path: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && entry.path().is_dir() {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// Whether there are pictures in at least two subfolders, below a part of the dataset or in `path` itself. Datasets
/// that were imported, and their pictures, do not count.
fn has_classes(path: &Path) -> bool {
    let Ok(folders) = subfolders(path) else { return false };
    let of_part = folders.iter().find(|(name, _)| part_of(name).is_some());
    let root = of_part.map_or(path, |(_, folder)| folder);
    let holds_pictures = |(_, folder): &&(String, PathBuf)| {
        let mut entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        !Info::exists(folder) && entries.any(|entry| is_picture(&entry.path()))
    };
    subfolders(root).is_ok_and(|classes| classes.iter().filter(holds_pictures).take(2).count() == 2)
}

/// The pictures in the subfolders of `path`, one of each class in turn, so that the first N images are of all classes.
fn of_classes(path: &Path, part: Option<Part>) -> Result<Portion> {
    let mut classes = BTreeMap::new();
    for (name, folder) in subfolders(path)? {
        let files = pictures(&folder).collect::<Result<Vec<_>>>()?;
        if !files.is_empty() {
            classes.insert(name, files.into_iter());
        }
    }
    ensure!(!classes.is_empty(), advice(path));
    let mut records = Vec::new();
    loop {
        let before = records.len();
        for (name, files) in &mut classes {
            records.extend(files.next().map(|file| (name.clone(), file)));
        }
        if records.len() == before {
            break;
        }
    }
    let count = Some(records.len() as u64);
    let root = path.to_path_buf();
    let records = records.into_iter().map(move |(label, file)| {
        let place = file.strip_prefix(&root).unwrap_or(&file).display().to_string();
        Ok(Record { place, label: Some(label), image: Image::File(file) })
    });
    Ok(Portion {
        path: path.to_path_buf(),
        part,
        count,
        labelled: true,
        classes: None,
        transposed: false,
        records: Box::new(records),
    })
}

/// The pictures in `folder` and below, by name. Hidden files and those of other endings are left out; a dead link and a
/// folder that cannot be read are errors.
pub(crate) fn pictures(folder: &Path) -> impl Iterator<Item = Result<PathBuf>> {
    let is_shown = |entry: &DirEntry| entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with('.');
    let entries = WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter().filter_entry(is_shown);
    let folder = folder.to_path_buf();
    entries.filter_map(move |entry| match entry {
        Ok(entry) => (entry.file_type().is_file() && is_picture(entry.path())).then(|| Ok(entry.into_path())),
        Err(error) => {
            let path = error.path().unwrap_or(&folder).display().to_string();
            Some(Err(match error.io_error().map(std::io::Error::kind) {
                Some(ErrorKind::NotFound) => anyhow!("{path} is a link to a file that is missing"),
                _ => anyhow!(error).context(format!("{path} cannot be read")),
            }))
        }
    })
}
