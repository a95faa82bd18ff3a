//! Passes on what the linker has to know to find libtorch; `crates/torch-extra` finds it out.

use std::{env, fs, process};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=Cargo.lock");
    let link_args = env::var("DEP_TORCH_EXTRA_LINK_ARGS").unwrap_or_default();
    link_args.split('\t').for_each(|argument| println!("cargo::rustc-link-arg={argument}"));
    match tch_version() {
        Ok(version) => println!("cargo::rustc-env=TCH_MNIST_TCH_VERSION={version}"),
        Err(sentence) => {
            eprintln!("error: {sentence}");
            process::exit(1);
        }
    }
}

/// The version of tch that Cargo.lock pins, such as `0.24.0`.
fn tch_version() -> Result<String, String> {
    let lock = fs::read_to_string("Cargo.lock").map_err(|error| format!("Cargo.lock cannot be read: {error}"))?;
    let mut lines = lock.lines().skip_while(|line| *line != "name = \"tch\"").skip(1);
    let version = lines.next().and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    version.map(String::from).ok_or_else(|| "Cargo.lock does not name tch: run cargo update -p tch".into())
}
