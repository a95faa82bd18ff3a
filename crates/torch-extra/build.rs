//! Finds libtorch and compiles the C++ side of `src` against it.
//!
//! What the linker needs to know, this package's tests get from here. A program that depends on the package passes it
//! on from a build script of its own, where cargo sets DEP_TORCH_EXTRA_LINK_ARGS: arguments with tabs between them.

use std::path::{Path, PathBuf};
use std::{env, fs, process, thread};

/// The release that tch 0.24 is generated from; another one has other symbols.
const LIBTORCH_VERSION: &str = "2.11.0";

fn main() {
    if let Err(sentence) = build() {
        eprintln!("error: {sentence}");
        process::exit(1);
    }
}

fn build() -> Result<(), String> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-env-changed=LIBTORCH");

    let lib = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from);
    let lib = lib.filter(|lib| lib.join("libtorch_cpu.so").exists() || lib.join("libtorch_cpu.dylib").exists());
    let lib = lib.ok_or_else(|| {
        format!(
            "libtorch was not found: run scripts/setup, or set LIBTORCH to the folder of a libtorch {LIBTORCH_VERSION} (the one that holds lib/ and include/)"
        )
    })?;
    let root = lib.parent().ok_or("libtorch's lib folder has no parent")?;
    let version = libtorch_version(root).ok_or_else(|| {
        format!(
            "{} has no libtorch headers: run scripts/setup, or set LIBTORCH to a whole libtorch {LIBTORCH_VERSION}",
            root.display()
        )
    })?;
    if version != LIBTORCH_VERSION {
        return Err(format!(
            "libtorch in {} is {version}, but tch 0.24 needs {LIBTORCH_VERSION}: run scripts/setup, or set LIBTORCH to a libtorch {LIBTORCH_VERSION}",
            root.display()
        ));
    }

    let mut link_args = vec![format!("-Wl,-rpath,{}", lib.display())];
    compile(root, &lib, &mut link_args)?;

    println!("cargo::rustc-env=TORCH_EXTRA_LIBTORCH_VERSION={LIBTORCH_VERSION}");
    println!("cargo::rustc-env=TORCH_EXTRA_LIBTORCH_LIB={}", lib.display());
    link_args.iter().for_each(|argument| println!("cargo::rustc-link-arg={argument}"));
    println!("cargo::metadata=link_args={}", link_args.join("\t"));
    Ok(())
}

/// Compiles the C++ side against the headers in `root`, and adds the libraries that it needs to `link_args`.
fn compile(root: &Path, lib: &Path, link_args: &mut Vec<String>) -> Result<(), String> {
    let all = all_sources()?;
    let x86_64 = env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64");
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        .warnings(false)
        .include(root.join("include"))
        .include(root.join("include/torch/csrc/api/include"))
        .file(all);
    if x86_64 {
        build.define("TM_X86_64", None);
    }
    // Without CUDA or its headers, graph.cpp compiles to functions that return an error.
    if let Some(cuda) = cuda_include(root).filter(|_| lib.join("libtorch_cuda.so").exists()) {
        build.define("TM_CUDA", None).include(cuda);
        link_args.push("-lc10_cuda".into());
    }
    // at::parallel_for is a header: without OpenMP it runs on one thread. The runtime must be libtorch's own.
    if let Some(gomp) = libgomp(lib).filter(|_| build.get_compiler().is_like_gnu()) {
        build.flag("-fopenmp");
        link_args.push(format!("-l:{gomp}"));
    }
    // The fused kernels, once for every instruction set; the program chooses when it runs.
    let mut sets: Vec<(&str, &[&str])> = vec![("portable", &[])];
    if x86_64 {
        sets.push(("x86_64_v3", &["-march=x86-64-v3"]));
        sets.push(("avx512", &["-march=x86-64-v4", "-mprefer-vector-width=512"]));
    }
    let compiled = thread::scope(|scope| {
        let kernels = scope.spawn(|| sets.into_iter().try_for_each(|(name, flags)| compile_kernels(name, flags)));
        build.try_compile("torch_extra").and(kernels.join().expect("compiling does not panic"))
    });
    compiled.map_err(|error| format!("torch-extra's C++ does not compile: {error}"))
}

/// A file that includes all of [`sources`]: the compiler reads libtorch's headers once, not for 5 s with each of them.
fn all_sources() -> Result<PathBuf, String> {
    let root = env::current_dir().map_err(|error| error.to_string())?;
    let includes = sources()?.into_iter().map(|path| format!("#include \"{}\"\n", root.join(path).display()));
    let all = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("all.cpp");
    fs::write(&all, includes.collect::<String>()).map_err(|error| format!("{}: {error}", all.display()))?;
    Ok(all)
}

/// The C++ files, except the fast kernels, which are compiled more than once.
fn sources() -> Result<Vec<PathBuf>, String> {
    let mut sources = Vec::new();
    for folder in ["src", "src/fused", "src/kernels"] {
        let entries = fs::read_dir(folder).map_err(|error| format!("{folder} cannot be read: {error}"))?;
        sources.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
    }
    sources.retain(|path| path.extension().is_some_and(|ending| ending == "cpp") && !path.ends_with(KERNELS));
    sources.sort();
    Ok(sources)
}

const KERNELS: &str = "src/kernels/fast.cpp";

/// Compiles the fused kernels for one instruction set, as the table `kernels_NAME`.
fn compile_kernels(name: &str, flags: &[&str]) -> Result<(), cc::Error> {
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(3)
        .warnings(false)
        // ISO C++ forbids fused multiply-add, which makes the kernels twice as fast.
        .flag("-ffp-contract=fast")
        .flags(flags)
        .define("TM_KERNELS", format!("kernels_{name}").as_str())
        .define("TM_INSTRUCTION_SET", format!("\"{name}\"").as_str())
        .file(KERNELS)
        .try_compile(&format!("torch_extra_kernels_{name}"))
}

/// The OpenMP runtime that comes with libtorch, such as `libgomp.so.1` or `libgomp-98b21ff3.so.1`.
fn libgomp(lib: &Path) -> Option<String> {
    let names = fs::read_dir(lib).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.starts_with("libgomp")).min()
}

/// The folder of CUDA's headers: those that came with libtorch from PyPI, or an installed toolkit's.
fn cuda_include(root: &Path) -> Option<PathBuf> {
    let installed = ["CUDA_HOME", "CUDA_PATH"].map(|name| {
        println!("cargo::rerun-if-env-changed={name}");
        env::var_os(name).map(PathBuf::from)
    });
    let installed = installed.into_iter().flatten().chain([PathBuf::from("/usr/local/cuda")]);
    let pypi = root.parent()?.join("nvidia/cu13");
    let mut folders = [pypi].into_iter().chain(installed).map(|folder| folder.join("include"));
    // PyPI has the second in a package of its own.
    folders.find(|folder| ["cuda_runtime_api.h", "crt/host_defines.h"].iter().all(|name| folder.join(name).exists()))
}

/// The version that the headers below `root` state, such as `2.11.0`.
fn libtorch_version(root: &Path) -> Option<String> {
    let header = fs::read_to_string(root.join("include/torch/headeronly/version.h"))
        .or_else(|_| fs::read_to_string(root.join("include/torch/csrc/api/include/torch/version.h")))
        .ok()?;
    let part = |name: &str| {
        let line = header.lines().find(|line| line.contains(&format!("define TORCH_VERSION_{name} ")))?;
        Some(line.split_whitespace().last()?.to_string())
    };
    Some(format!("{}.{}.{}", part("MAJOR")?, part("MINOR")?, part("PATCH")?))
}
