//! Folders: with files of other forms, as Kaggle, torchvision and Hugging Face leave them, or with pictures in a
//! subfolder per class, as torchvision's `ImageFolder` takes them.

use super::advice::table_of_labels;
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
            if let Some(table) = table_of_labels(path) {
                let classes: Vec<String> = subfolders(path)?.into_iter().map(|(name, _)| name).collect();
                tracing::warn!(
                    "{}: {table} is not read: each subfolder is taken for a class ({})",
                    path.display(),
                    classes.join(", ")
                );
            }
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
    let parts: Vec<&Path> =
        folders.iter().filter(|(name, _)| part_of(name).is_some()).map(|(_, folder)| folder.as_path()).collect();
    let holds_pictures = |(_, folder): &&(String, PathBuf)| {
        let mut entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        !Info::exists(folder) && entries.any(|entry| is_picture(&entry.path()))
    };
    let is_one =
        |root: &&Path| subfolders(root).is_ok_and(|classes| classes.iter().filter(holds_pictures).take(2).count() == 2);
    if parts.is_empty() { is_one(&path) } else { parts.iter().any(is_one) }
}

/// The pictures in the subfolders of `path`, one of each class in turn, so that the first N images are of all classes.
fn of_classes(path: &Path, part: Option<Part>) -> Result<Portion> {
    let mut classes = BTreeMap::new();
    for (name, folder) in subfolders(path)? {
        let files: Vec<Entry> =
            if is_around(&folder, path) { vec![Entry::loops(folder)] } else { entries(&folder).collect() };
        if !files.is_empty() {
            classes.insert(name, files.into_iter());
        }
    }
    for dead in dead_links(path)? {
        let name = dead.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        classes.insert(name, vec![dead].into_iter());
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
    let records = records.into_iter().map(move |(label, Entry { path, fault })| {
        let place = path.strip_prefix(&root).unwrap_or(&path).display().to_string();
        let image = fault.map_or(Image::File(path), |fault| Image::Broken(format!("it {fault}")));
        Ok(Record { place, label: Some(label), image })
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

/// Whether `folder`, a link, leads to a folder that it lies in.
fn is_around(folder: &Path, path: &Path) -> bool {
    let canonical = |path: &Path| std::fs::canonicalize(path).ok();
    canonical(folder).zip(canonical(path)).is_some_and(|(folder, path)| path.starts_with(folder))
}

/// The links in `path` to folders that are missing, as far as their names tell that they are to folders.
fn dead_links(path: &Path) -> Result<Vec<Entry>> {
    let entries = std::fs::read_dir(path)?.flatten().map(|entry| entry.path());
    let is_dead = |path: &PathBuf| path.extension().is_none() && path.is_symlink() && !path.exists();
    Ok(entries.filter(is_dead).map(Entry::dead).collect())
}

/// A picture, or what should lead to pictures and does not.
struct Entry {
    path: PathBuf,
    /// What is wrong with it, to follow its name.
    fault: Option<String>,
}

impl Entry {
    fn dead(path: PathBuf) -> Entry {
        Entry { path, fault: Some("is a link to a file that is missing".into()) }
    }

    fn loops(path: PathBuf) -> Entry {
        Entry { path, fault: Some("is a link to a folder that it lies in".into()) }
    }
}

/// The pictures in `folder` and below, by name. Hidden files and those of other endings are left out; a dead link and a
/// folder that cannot be read are errors.
pub(crate) fn pictures(folder: &Path) -> impl Iterator<Item = Result<PathBuf>> + use<> {
    entries(folder).map(|Entry { path, fault }| match fault {
        None => Ok(path),
        Some(fault) => Err(anyhow!("{} {fault}", path.display())),
    })
}

fn entries(folder: &Path) -> impl Iterator<Item = Entry> + use<> {
    let is_shown = |entry: &DirEntry| entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with('.');
    let entries = WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter().filter_entry(is_shown);
    let folder = folder.to_path_buf();
    entries.filter_map(move |entry| match entry {
        Ok(entry) => {
            let is_one = entry.file_type().is_file() && is_picture(entry.path());
            is_one.then(|| Entry { path: entry.into_path(), fault: None })
        }
        Err(error) => {
            let path = error.path().unwrap_or(&folder).to_path_buf();
            let is_missing = error.io_error().is_some_and(|error| error.kind() == ErrorKind::NotFound);
            if error.loop_ancestor().is_some() {
                Some(Entry::loops(path))
            } else if is_missing {
                // A link to something else than a picture is left out, as the file would be.
                (is_picture(&path) || path.extension().is_none()).then(|| Entry::dead(path))
            } else {
                Some(Entry { path, fault: Some(format!("cannot be read: {error}")) })
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_that_lead_nowhere_or_round_and_round_are_pictures_that_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        Folder.example(root, &[[7; 784]; 4], &[3, 4, 3, 4]);
        symlink("/nowhere/old.png", root.join("3/old.png")).unwrap();
        symlink("/nowhere/notes.txt", root.join("3/notes.txt")).unwrap();
        symlink(root.join("4"), root.join("4/again")).unwrap();
        symlink("/nowhere/5", root.join("5")).unwrap();
        symlink(root, root.join("6")).unwrap();
        let portion = of_classes(root, None).unwrap();
        assert_eq!(portion.count, Some(8));
        let mut found: Vec<String> = portion
            .records
            .map(|record| match record.unwrap() {
                Record { place, image: Image::Broken(why), .. } => format!("{place}: {why}"),
                Record { place, .. } => place,
            })
            .collect();
        found.sort();
        let expected = [
            "3/0.pgm",
            "3/2.pgm",
            "3/old.png: it is a link to a file that is missing",
            "4/1.pgm",
            "4/3.pgm",
            "4/again: it is a link to a folder that it lies in",
            "5: it is a link to a file that is missing",
            "6: it is a link to a folder that it lies in",
        ];
        assert_eq!(found, expected);
        let sentences = pictures(&root.join("3")).filter_map(|picture| Some(picture.err()?.to_string()));
        assert_eq!(
            sentences.collect::<Vec<_>>(),
            [format!("{}/3/old.png is a link to a file that is missing", root.display())]
        );
    }
}
