//! The map in `src/lib.rs` is true, and layers point one way: a module uses only modules below it in the map.

use std::fs;
use std::path::{Path, PathBuf};

/// The modules of the map, from the top.
fn map() -> Vec<String> {
    let lines = include_str!("../src/lib.rs").lines();
    let rows = lines.filter_map(|line| line.strip_prefix("//! | ")?.split_once(" |"));
    let names = rows.map(|(name, _)| name.trim_matches(['[', ']', '`']).to_string());
    names.filter(|name| !["module", "---"].contains(&name.as_str())).collect()
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The crates of `crates/` under the names by which modules use them, and their folders.
fn crates() -> Vec<(String, PathBuf)> {
    let aliases = include_str!("../src/lib.rs").lines().filter_map(|line| {
        let (_, alias) = line.strip_suffix(';')?.split_once("use ")?;
        alias.split_once(" as ")
    });
    let folder = |name: &str| source().with_file_name("crates").join(name.replace('_', "-"));
    let folders = aliases.map(|(name, alias)| (alias.to_string(), folder(name)));
    folders.filter(|(_, folder)| folder.exists()).collect()
}

/// The Rust files below `path`, or `path` itself.
fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return if path.extension().is_some_and(|ending| ending == "rs") { vec![path.to_path_buf()] } else { vec![] };
    }
    let entries = fs::read_dir(path).unwrap();
    entries.flat_map(|entry| files(&entry.unwrap().path())).collect()
}

/// The modules that `text` names by `crate::name`, with their lines. In a test module it may use what it likes.
fn used(text: &str) -> Vec<(usize, String)> {
    let code = text.split("#[cfg(test)]").next().unwrap();
    let numbered = code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
    let mut found = Vec::new();
    for (number, line) in numbered {
        for (_, rest) in line.match_indices("crate::").map(|(at, name)| (at, &line[at + name.len()..])) {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            found.push((number + 1, rest[..end].to_string()));
        }
    }
    found
}

#[test]
fn the_map_names_every_module_and_no_other() {
    let mut named = map();
    let mut there: Vec<String> = fs::read_dir(source())
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_string())
        .filter(|name| !["lib", "main"].contains(&name.as_str()))
        .chain(crates().into_iter().map(|(name, _)| name))
        .collect();
    named.sort();
    there.sort();
    assert_eq!(named, there);
}

#[test]
fn no_module_uses_one_above_it() {
    let map = map();
    let place = |module: &str| map.iter().position(|name| name == module);
    let mut uses = 0;
    for (height, module) in map.iter().enumerate() {
        if crates().iter().any(|(name, _)| name == module) {
            continue; // cargo sees to it that a crate uses nothing of this one
        }
        let (folder, file) = (source().join(module), source().join(format!("{module}.rs")));
        for path in files(if folder.exists() { &folder } else { &file }) {
            for (line, other) in used(&fs::read_to_string(&path).unwrap()) {
                let at = format!("{}, line {line}: {module} uses {other}", path.display());
                let below = place(&other).unwrap_or_else(|| panic!("{at}, which is not in the map"));
                assert!(below >= height, "{at}, which is above it in the map of src/lib.rs");
                uses += usize::from(below > height);
            }
        }
    }
    assert!(uses > 100, "only {uses} uses were found");
}

#[test]
fn unsafe_code_and_cpp_are_in_one_crate() {
    let root = source().parent().unwrap().to_path_buf();
    let mut folders: Vec<PathBuf> = ["src", "tests", "examples"].map(|name| root.join(name)).into();
    for entry in fs::read_dir(root.join("crates")).unwrap() {
        folders.push(entry.unwrap().path());
    }
    let has_unsafe = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        code.flat_map(str::split_whitespace).any(|word| word == concat!("un", "safe"))
    };
    folders.retain(|folder| files(folder).iter().any(has_unsafe));
    assert_eq!(folders, [root.join("crates/torch-extra")]);
}
