//! What the tests share: the built program, the real data, a folder that goes away.
#![allow(dead_code)] // each test file uses its own part

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use serde_json::Value;
use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};
use std::rc::Rc;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// The folder with the datasets.
pub const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data");
/// A Python with the libtorch that the program is linked against.
pub const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.venv/bin/python");

/// The weights that a run writes.
pub const WEIGHTS: [&str; 5] = ["model.onnx", "model.pt", "model.pt2", "model.pth", "model.safetensors"];

/// The program, as a user calls it in the repository's folder.
pub fn tch_mnist(args: &[&str]) -> Program {
    Program { args: args.iter().map(OsString::from).collect() }
}

/// A call of the program. It is made in this process, for libtorch takes half a second to load; a resume is a process of its
/// own, so that nothing that the run before left in this one, such as the state of the generator, can help it.
pub struct Program {
    args: Vec<OsString>,
}

impl Program {
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Program {
        self.args.push(arg.as_ref().into());
        self
    }

    pub fn args(&mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> &mut Program {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().into()));
        self
    }

    /// What it did.
    pub fn assert(&mut self) -> Assert {
        if self.args.iter().any(|arg| arg == "--resume") {
            return self.process().assert();
        }
        let _alone = alone();
        tch::set_num_threads(*THREADS);
        let (stdout, stderr) = (Buffer::default(), Buffer::default());
        let code = tch_mnist::call(self.args.clone(), stdout.clone(), stderr.clone());
        let status = ExitStatus::from_raw(i32::from(code) << 8);
        Assert::new(Output { status, stdout: stdout.0.take(), stderr: stderr.0.take() })
            .append_context("command", format!("tch-mnist {:?}", self.args))
    }

    /// The same as a process of its own: for its environment, its folder, its stdin, and what a call leaves in a process.
    pub fn process(&self) -> Command {
        let mut command = Command::cargo_bin("tch-mnist").unwrap();
        command.current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("RUST_LOG").args(&self.args);
        command
    }

    pub fn current_dir(&mut self, folder: impl AsRef<Path>) -> Command {
        let mut command = self.process();
        command.current_dir(folder);
        command
    }

    pub fn env(&mut self, name: &str, value: impl AsRef<OsStr>) -> Command {
        let mut command = self.process();
        command.env(name, value);
        command
    }

    pub fn write_stdin(&mut self, bytes: impl Into<Vec<u8>>) -> Command {
        let mut command = self.process();
        command.write_stdin(bytes);
        command
    }
}

/// The number of threads that libtorch chose when the tests began.
static THREADS: LazyLock<i32> = LazyLock::new(tch::get_num_threads);

/// Keeps other tests of this process from the default generator and the number of threads. Calls of the program wait for it,
/// so a test that holds it makes none.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    LazyLock::force(&THREADS);
    guard
}

/// What a call printed.
#[derive(Clone, Default)]
struct Buffer(Rc<RefCell<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A call of the program in this process, or a process.
pub trait Call {
    fn outcome(&mut self) -> Assert;
}

impl Call for Program {
    fn outcome(&mut self) -> Assert {
        self.assert()
    }
}

impl Call for Command {
    fn outcome(&mut self) -> Assert {
        self.timeout(std::time::Duration::from_secs(60)).assert()
    }
}

/// `train` on a slice that takes seconds, into `out`, without the report and TensorBoard unless `args` ask for them.
pub fn train(out: &Path, args: &[&str]) -> Program {
    let mut command = tch_mnist(&["train", "--data", DATA, "--device", "cpu", "--out"]);
    command.arg(out).args(["--limit-train", "1280", "--limit-test", "500", "--epochs", "2"]);
    command.args(["--report=false", "--tensorboard=false"]).args(args);
    command
}

/// What a command printed on stdout, after it succeeded.
pub fn stdout(command: &mut impl Call) -> String {
    let output = command.outcome().success().get_output().clone();
    String::from_utf8(output.stdout).unwrap()
}

/// The one sentence with which a command failed, and its exit code.
pub fn failure(command: &mut impl Call) -> (String, i32) {
    let output = command.outcome().failure().get_output().clone();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let errors: Vec<&str> =
        stderr.lines().filter(|line| !line.starts_with(" INFO ") && !line.starts_with(" WARN ")).collect();
    assert_eq!(errors.len(), 1, "one line was expected:\n{stderr}");
    (errors[0].to_string(), output.status.code().expect("no signal"))
}

/// Runs a process that is to fail, and returns what it printed on stderr, its exit code and its peak memory in kilobytes.
pub fn measured(command: &Command) -> (String, i32, u64) {
    // Python, because Rust's standard library does not report the peak memory of a child.
    let script = "import resource, subprocess, sys; code = subprocess.run(sys.argv[1:]).returncode; \
                  print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";
    let mut python = std::process::Command::new(PYTHON);
    python.args(["-c", script]).arg(command.get_program()).args(command.get_args());
    let output = python.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let (code, kilobytes) = stdout.lines().last().unwrap().split_once(' ').unwrap();
    (String::from_utf8(output.stderr).unwrap(), code.parse().unwrap(), kilobytes.parse().unwrap())
}

/// What the program lists.
pub fn lists() -> Value {
    serde_json::from_str(&stdout(&mut tch_mnist(&["lists"]))).unwrap()
}

/// The flags of every example run of every optimizer, schedule or augmentation, as `kinds` are called in the lists;
/// `chooser` is the flag that chooses one.
pub fn examples(kinds: &str, chooser: Option<&str>) -> Vec<Vec<String>> {
    let lists = lists();
    let of_kind = |kind: &Value| {
        let chosen = chooser.map(|flag| format!("{flag}={}", kind["name"].as_str().unwrap()));
        let examples: Vec<Vec<String>> = serde_json::from_value(kind["examples"].clone()).unwrap();
        examples.into_iter().map(move |flags| chosen.iter().cloned().chain(flags).collect()).collect::<Vec<_>>()
    };
    lists[kinds].as_array().unwrap().iter().flat_map(of_kind).collect()
}

/// The lines of a JSON Lines text.
pub fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

/// `metrics.jsonl` of a run, without what differs from one run to the next: times and the folder.
pub fn metrics(out: &Path) -> Vec<Value> {
    let mut lines = json_lines(&std::fs::read_to_string(out.join("metrics.jsonl")).unwrap());
    for line in &mut lines {
        let fields = line.as_object_mut().unwrap();
        for key in ["seconds", "preparation_seconds", "images_per_second", "out"] {
            fields.remove(key);
        }
    }
    lines
}

/// Asserts that two runs left the same weights, losses and metrics.
pub fn assert_same_run(one: &Path, other: &Path) {
    for name in WEIGHTS.into_iter().chain(["losses.csv", "config.toml"]) {
        let read = |out: &Path| std::fs::read(out.join(name)).unwrap();
        assert!(read(one) == read(other), "{name} differs in {} and {}", one.display(), other.display());
    }
    assert_eq!(metrics(one), metrics(other));
}

/// The names of a folder's files, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A folder for `out` that does not exist yet, in a temporary one that goes away.
pub fn out() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    (folder, out)
}
