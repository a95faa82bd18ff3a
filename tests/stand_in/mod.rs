//! A stand-in for CUDA: the program runs as on a GPU whose kernels compute nothing, and a log says what it launched.
//!
//! It replaces the functions of CUDA that libtorch calls (`runtime.cpp`, `libraries.cpp`, `driver.c`) by LD_PRELOAD, so
//! that everything the host does for a GPU is done, and everything that libtorch checks on the host is checked.

use crate::common::{DATA, PYTHON, json_lines, stdout, tch_mnist};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use tempfile::TempDir;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_tch-mnist");

/// The folder of the stand-in's library; `None` where libtorch has no CUDA half to use it.
static LIBRARY: LazyLock<Option<TempDir>> = LazyLock::new(|| {
    let report = json_lines(&stdout(&mut tch_mnist(&["doctor", "--log-format", "json", "--data", DATA]))).remove(0);
    let libtorch = Path::new(report["libtorch"]["library"].as_str().unwrap()).with_file_name("libtorch_cuda.so");
    // Beside PyTorch's package are those of NVIDIA, with the headers.
    let packages = libtorch.ancestors().nth(3).unwrap().join("nvidia");
    let headers = [packages.join("cu13/include"), packages.join("cudnn/include")];
    if !libtorch.exists() || !headers.iter().all(|folder| folder.exists()) {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stand_in");
    let mut compiler = Command::new("g++");
    compiler.args(["-O1", "-fPIC", "-shared", "-fvisibility=hidden", "-Wl,-soname,libcuda.so.1", "-o"]);
    compiler
        .arg(folder.path().join("libcuda.so.1"))
        .args(headers.iter().map(|folder| format!("-I{}", folder.display())));
    compiler.args(["runtime.cpp", "libraries.cpp", "-x", "c", "driver.c"]).current_dir(source);
    assert!(compiler.status().unwrap().success());
    Some(folder)
});

/// Whether the stand-in can be used; says so if not, and then the test has to be skipped.
pub fn is_usable(test: &str) -> bool {
    if LIBRARY.is_none() {
        eprintln!("{test}: skipped: this libtorch is the CPU build");
    }
    LIBRARY.is_some()
}

/// What a process on the stand-in did.
pub struct Ran {
    /// The folder for its files.
    pub folder: TempDir,
    pub stdout: String,
    pub stderr: String,
    /// `None` if a signal killed it.
    pub code: Option<i32>,
    pub events: Vec<Event>,
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// `kernel`, `library`, `copy`, `memset`, each also `captured ..`; `replay`, `sync`, `malloc`, `begin`, `end`, `error`,
    /// `file`.
    pub kind: String,
    pub device: usize,
    /// The kernel, the way of a copy, the number of a graph, the name of a file.
    pub what: String,
    /// The numbers that a captured kernel gets from the host; the bytes of a copy.
    pub numbers: String,
}

impl Event {
    fn parse(line: &str) -> Event {
        let fields: Vec<&str> = line.split('\t').collect();
        let field = |at: usize| fields.get(at).unwrap_or(&"").to_string();
        Event { kind: field(0), device: field(1).parse().unwrap(), what: field(2), numbers: field(3) }
    }

    /// Whether something ran on the device, other than the nodes of a graph one by one.
    pub fn is_launch(&self) -> bool {
        ["kernel", "library", "memset", "replay"].contains(&self.kind.as_str())
    }

    /// Whether it is a node of a graph.
    pub fn is_node(&self) -> bool {
        self.kind.starts_with("captured ")
    }

    /// Whether it computes the loss, once in each step.
    pub fn is_loss(&self) -> bool {
        self.what.contains("nll_loss_forward")
    }

    /// The name of a file that was just written, without what makes it a temporary one.
    fn file(&self) -> Option<&str> {
        if self.kind == "file" { self.what.strip_prefix('.') } else { None }
    }
}

impl Ran {
    /// The folder of the run.
    pub fn out(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// The run, which has to have ended well.
    pub fn done(self) -> Ran {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }

    /// The one line on stderr of a run that failed.
    pub fn error(&self) -> &str {
        let mut lines = self.stderr.lines().filter(|line| line.starts_with("error: "));
        let error = lines.next().unwrap_or_else(|| panic!("no error:\n{}", self.stderr));
        assert_eq!((lines.count(), self.code), (0, Some(1)), "{}", self.stderr);
        error
    }

    /// The warnings, each of one line.
    pub fn warnings(&self) -> Vec<&str> {
        // `[W`: libtorch's own warnings.
        let is_known = |line: &&str| [" WARN ", " INFO ", "error: ", "[W"].iter().any(|start| line.starts_with(start));
        let other: Vec<&str> = self.stderr.lines().filter(|line| !is_known(line)).collect();
        assert!(other.is_empty(), "lines of nobody: {other:?}");
        self.stderr.lines().filter(|line| line.starts_with(" WARN ")).collect()
    }

    /// What was done from one checkpoint to the next; before the first there are the preparations too.
    pub fn epochs(&self) -> Vec<&[Event]> {
        let is_end = |event: &Event| event.file().is_some_and(|name| name.starts_with("checkpoint."));
        let mut parts: Vec<_> = self.events.split(is_end).collect();
        parts.pop();
        parts
    }

    /// The nodes of each graph, in the order of their captures.
    pub fn graphs(&self) -> Vec<Vec<&Event>> {
        let captures = self.events.split(|event| event.kind == "begin").skip(1);
        let nodes = captures.map(|events| events.iter().take_while(|event| event.kind != "end"));
        nodes.map(|events| events.filter(|event| event.is_node()).collect()).collect()
    }
}

/// The program, or another one, on the stand-in, in an `environment` that its sources explain; its log is in `folder`.
pub fn command(program: &str, args: &[&str], folder: &Path, environment: &[(&str, &str)]) -> Command {
    let library = LIBRARY.as_ref().unwrap().path();
    let mut command = Command::new(program);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("RUST_LOG").env("TCH_MNIST", PROGRAM).args(args);
    // The driver is opened by its name, the rest is called.
    command.env("LD_PRELOAD", library.join("libcuda.so.1")).env("LD_LIBRARY_PATH", library);
    command.env("FAKE_LOG", folder.join("log")).envs(environment.iter().copied());
    command
}

fn run(program: &str, args: &[&str], folder: TempDir, environment: &[(&str, &str)]) -> Ran {
    let output = command(program, args, folder.path(), environment).output().unwrap();
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (stdout, stderr, code) = (text(output.stdout), text(output.stderr), output.status.code());
    Ran { folder, stdout, stderr, code, events: log.lines().map(Event::parse).collect() }
}

/// Runs the program on the stand-in.
pub fn program(args: &[&str], environment: &[(&str, &str)]) -> Ran {
    in_folder(tempfile::tempdir().unwrap(), args, environment)
}

/// Runs the program on the stand-in, with the `folder` of an earlier run.
pub fn in_folder(folder: TempDir, args: &[&str], environment: &[(&str, &str)]) -> Ran {
    run(PROGRAM, args, folder, environment)
}

/// Runs Python on the stand-in.
pub fn python(args: &[&str], environment: &[(&str, &str)]) -> Ran {
    run(PYTHON, args, tempfile::tempdir().unwrap(), environment)
}

/// Trains on the stand-in: epochs of 11 steps, 10 of them in one graph.
pub fn train(flags: &[&str], environment: &[(&str, &str)]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let common = ["train", "--data", DATA, "--device=cuda", "--report=false", "--tensorboard=false", "--threads=1"];
    let slice = ["--limit-train=1408", "--limit-test=500", "--epochs=3", "--out", out.to_str().unwrap()];
    in_folder(folder, &[&common[..], &slice, flags].concat(), environment)
}
