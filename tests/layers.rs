//! The map in `src/lib.rs` is true, and layers point one way: a module uses only modules below it in the map, and crates,
//! which are below all modules.

use std::fs;
use std::path::{Path, PathBuf};

const LIB: &str = include_str!("../src/lib.rs");

/// The names in the first column of the map's table with this `heading`, from the top.
fn table(heading: &str) -> Vec<String> {
    let rows = LIB.lines().skip_while(|line| !line.starts_with(&format!("//! | {heading} |"))).skip(2);
    let names = rows.map_while(|line| line.strip_prefix("//! | ")?.split_once(" |"));
    names.map(|(name, _)| name.trim_matches(['[', ']', '`']).to_string()).collect()
}

/// The modules of the map, from the top. A folder of a module may have a row of its own, such as `train::schedules`.
fn map() -> Vec<String> {
    table("module")
}

/// The other names of crates, as in `pub use digit_images as digit;`.
fn aliases() -> Vec<&'static str> {
    LIB.lines().filter_map(|line| line.split_once(" as ")?.1.strip_suffix(';')).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn source() -> PathBuf {
    root().join("src")
}

/// The Rust files below `path`, or `path` itself.
fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return if path.extension().is_some_and(|ending| ending == "rs") { vec![path.to_path_buf()] } else { vec![] };
    }
    let entries = fs::read_dir(path).unwrap();
    entries.flat_map(|entry| files(&entry.unwrap().path())).collect()
}

/// The files of a row of the map: not those of a row of their own.
fn files_of(row: &str, map: &[String]) -> Vec<PathBuf> {
    let place = |row: &str| source().join(row.replace("::", "/"));
    let folder = place(row);
    let all = files(&if folder.exists() { folder } else { folder.with_extension("rs") });
    let others: Vec<PathBuf> = map.iter().filter(|other| *other != row).map(|other| place(other)).collect();
    let inner = |path: &PathBuf| others.iter().any(|other| other.starts_with(place(row)) && path.starts_with(other));
    all.into_iter().filter(|path| !inner(path)).collect()
}

/// The rows that `text` names by `crate::name`, with their lines. In a test module it may use what it likes.
fn used(text: &str, map: &[String]) -> Vec<(usize, String)> {
    let code = text.split("#[cfg(test)]").next().unwrap();
    let numbered = code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
    let mut found = Vec::new();
    for (number, line) in numbered {
        for (_, rest) in line.match_indices("crate::").map(|(at, name)| (at, &line[at + name.len()..])) {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
            let path: Vec<&str> = rest[..end].split("::").collect();
            let inner = path[..path.len().min(2)].join("::");
            let row = if map.contains(&inner) { inner } else { path[0].to_string() };
            found.push((number + 1, row));
        }
    }
    found
}

#[test]
fn the_map_names_every_module_and_no_other() {
    let mut there = names_in(&source());
    there.retain(|name| !["lib", "main"].contains(&name.as_str()));
    let (folders, modules): (Vec<String>, Vec<String>) = map().into_iter().partition(|name| name.contains("::"));
    assert_eq!(sorted(modules), there);
    for folder in folders {
        assert!(source().join(folder.replace("::", "/")).is_dir(), "{folder} is no folder");
    }
}

#[test]
fn the_map_names_every_crate_and_no_other() {
    assert_eq!(sorted(table("crate")), names_in(&root().join("crates")));
}

/// What is in a folder, sorted, without endings.
fn names_in(folder: &Path) -> Vec<String> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    sorted(paths.map(|path| path.file_stem().unwrap().to_str().unwrap().to_string()).collect())
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

#[test]
fn no_module_uses_one_above_it() {
    let (map, aliases) = (map(), aliases());
    let place = |module: &str| map.iter().position(|name| name == module);
    let mut uses = 0;
    for (height, module) in map.iter().enumerate() {
        for path in files_of(module, &map) {
            let used = used(&fs::read_to_string(&path).unwrap(), &map);
            for (line, other) in used.into_iter().filter(|(_, other)| !aliases.contains(&other.as_str())) {
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
    let root = root();
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

/// Lost once: nobody noticed that the program no longer had them.
#[test]
fn the_net_is_a_sequential_of_tch_and_its_loader_reads_the_data() {
    let is_code = |line: &&str| !line.trim_start().starts_with("//") && !line.trim_start().starts_with("use ");
    let calls = |text: &str, call: &str| {
        text.split("#[cfg(test)]").next().unwrap().lines().filter(is_code).any(|line| line.contains(call))
    };
    for call in ["seq_t()", "load_dir("] {
        let found = files(&source()).iter().any(|path| calls(&fs::read_to_string(path).unwrap(), call));
        assert!(found, "nothing in src calls {call}");
    }
}
