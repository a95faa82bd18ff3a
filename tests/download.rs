//! What `tch-mnist download` does with good and bad mirrors, driven through the binary and a server on loopback.

use assert_cmd::Command;
use flate2::Compression;
use flate2::write::GzEncoder;
use predicates::prelude::*;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};
use tempfile::TempDir;

const NAMES: [&str; 4] =
    ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];

/// The smallest of the four: what most tests fetch.
const SMALL: &str = "t10k-labels-idx1-ubyte";

fn real(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/data/mnist")).join(name)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The gzipped small file, as a mirror serves it.
static SMALL_GZ: LazyLock<Vec<u8>> = LazyLock::new(|| gzip(&std::fs::read(real(SMALL)).unwrap()));

/// A mirror that serves some files at `/some/folder/NAME.gz`, knows no others, and remembers what it was asked for.
struct Mirror {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Mirror {
    fn serving(files: impl IntoIterator<Item = (&'static str, Vec<u8>)>) -> Mirror {
        let files: HashMap<String, Vec<u8>> =
            files.into_iter().map(|(name, bytes)| (format!("/some/folder/{name}.gz"), bytes)).collect();
        let server = tiny_http::Server::http("127.0.0.1:0").unwrap();
        let url = format!("http://{}/some/folder", server.server_addr().to_ip().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        std::thread::spawn(move || {
            for request in server.incoming_requests() {
                log.lock().unwrap().push(request.url().trim_start_matches("/some/folder/").to_string());
                let _ = match files.get(request.url()) {
                    Some(bytes) => request.respond(tiny_http::Response::from_data(bytes.clone())),
                    None => request.respond(tiny_http::Response::empty(404)),
                };
            }
        });
        Mirror { url, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// A server that answers every request with exactly these bytes and then, if it is to stall, keeps the line open.
fn raw_server(answer: Vec<u8>, stall: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(&answer);
            if stall {
                open.push(stream);
            }
        }
    });
    url
}

fn http_ok(announced: usize, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\nContent-Length: {announced}\r\n\r\n").as_bytes(), body].concat()
}

/// A data folder with links to all real files but one, so that only that one is to be fetched.
fn folder_without(missing: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in NAMES.into_iter().filter(|&name| name != missing) {
        std::os::unix::fs::symlink(real(name), folder.path().join(name)).unwrap();
    }
    folder
}

fn download(folder: &Path, mirrors: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("tch-mnist"));
    command.args(["download", "--data"]).arg(folder);
    for mirror in mirrors {
        command.args(["--mirror", mirror]);
    }
    command
}

/// Runs a download that must fail with exit code 1 and one line that holds all of `texts`, and leave nothing behind.
fn fails(folder: &TempDir, command: &mut Command, texts: &[&str]) {
    let before = listing(folder.path());
    let output = command.assert().code(1).get_output().clone();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    assert_eq!(stderr.lines().last(), errors.first().copied(), "{stderr}");
    for text in texts {
        assert!(errors[0].contains(text), "{text:?} is not in {stderr}");
    }
    assert_eq!(listing(folder.path()), before);
}

fn listing(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn is_one_line() -> impl Predicate<str> {
    predicate::function(|text: &str| text.lines().count() == 1)
}

#[test]
fn a_good_mirror_gives_the_four_real_files_and_is_not_asked_again() {
    let files = NAMES.map(|name| (name, gzip(&std::fs::read(real(name)).unwrap())));
    let mirror = Mirror::serving(files);
    let data = tempfile::tempdir().unwrap();
    let output = download(data.path(), &[&mirror.url]).assert().success().get_output().clone();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{stdout}");
    for (line, name) in lines.iter().zip(NAMES) {
        let bytes = std::fs::read(real(name)).unwrap();
        assert!(line.starts_with(name) && line.contains(&format!(" {} bytes ", bytes.len())), "{line}");
        assert!(line.contains(&format!("fetched from {}/", mirror.url)) && line.ends_with("sha256 ok"), "{line}");
        assert!(std::fs::read(data.path().join("mnist").join(name)).unwrap() == bytes, "{name} differs");
    }
    assert_eq!(listing(&data.path().join("mnist")).len(), 4);
    let asked = mirror.asked();
    assert_eq!(asked, NAMES.map(|name| format!("{name}.gz")));
    // A second call finds them, and so does one that is given the folder itself.
    for folder in [data.path().to_path_buf(), data.path().join("mnist")] {
        let again = download(&folder, &[&mirror.url]).assert().success();
        again.stdout(predicate::str::contains("already there, sha256 ok").count(4));
    }
    assert_eq!(mirror.asked(), asked);
}

#[test]
fn only_what_is_missing_is_fetched() {
    let mirror = Mirror::serving([(SMALL, SMALL_GZ.clone())]);
    let folder = folder_without(SMALL);
    download(folder.path(), &[&mirror.url]).assert().success();
    assert_eq!(mirror.asked(), [format!("{SMALL}.gz")]);
    assert_eq!(std::fs::read(folder.path().join(SMALL)).unwrap(), std::fs::read(real(SMALL)).unwrap());
}

#[test]
fn a_damaged_and_an_altered_file_are_replaced_and_the_line_says_so() {
    let mirror = Mirror::serving([(SMALL, SMALL_GZ.clone())]);
    let good = std::fs::read(real(SMALL)).unwrap();
    let mut altered = good.clone();
    altered[100] = (altered[100] + 1) % 10;
    for (bytes, reason) in [(&good[..5000], "has 5000 bytes"), (&altered, "sha256 differs from the published one")] {
        let folder = folder_without(SMALL);
        std::fs::write(folder.path().join(SMALL), bytes).unwrap();
        download(folder.path(), &[&mirror.url]).assert().success().stdout(predicate::str::contains(reason).count(1));
        assert!(std::fs::read(folder.path().join(SMALL)).unwrap() == good);
    }
}

#[test]
fn a_mirror_that_does_not_know_the_file() {
    let mirror = Mirror::serving([]);
    let folder = folder_without(SMALL);
    fails(&folder, &mut download(folder.path(), &[&mirror.url]), &[SMALL, &mirror.url, "404", "--mirror", "by hand"]);
}

#[test]
fn folders_that_were_made_for_nothing_are_removed() {
    let (mirror, folder) = (Mirror::serving([]), tempfile::tempdir().unwrap());
    fails(&folder, &mut download(&folder.path().join("not/there"), &[&mirror.url]), &["404"]);
}

#[test]
fn a_connection_that_ends_early() {
    let cut = &SMALL_GZ[..SMALL_GZ.len() / 2];
    let folder = folder_without(SMALL);
    let url = raw_server(http_ok(SMALL_GZ.len(), cut), false);
    fails(&folder, &mut download(folder.path(), &[&url]), &[SMALL, "so 10008 bytes are expected"]);
}

#[test]
fn a_truncated_file() {
    let folder = folder_without(SMALL);
    // At every part of a gzip file: its header, the IDX header, the data, the checksum at its end.
    for length in [0, 5, 12, SMALL_GZ.len() / 2, SMALL_GZ.len() - 4] {
        let mirror = Mirror::serving([(SMALL, SMALL_GZ[..length].to_vec())]);
        fails(&folder, &mut download(folder.path(), &[&mirror.url]), &[SMALL, &mirror.url, "(the file "]);
    }
}

#[test]
fn a_sound_file_with_another_checksum() {
    let mut bytes = std::fs::read(real(SMALL)).unwrap();
    bytes[4000] = (bytes[4000] + 1) % 10;
    let mirror = Mirror::serving([(SMALL, gzip(&bytes))]);
    let folder = folder_without(SMALL);
    fails(&folder, &mut download(folder.path(), &[&mirror.url]), &["SHA-256 is not the published one"]);
    // KMNIST has only checksums of its .gz files.
    let kmnist = tempfile::tempdir().unwrap();
    std::fs::create_dir(kmnist.path().join("kmnist")).unwrap();
    let mirror = Mirror::serving([(NAMES[0], gzip(&std::fs::read(real("t10k-images-idx3-ubyte")).unwrap()))]);
    let mut command = download(kmnist.path(), &[&mirror.url]);
    fails(&kmnist, command.args(["--dataset", "kmnist"]), &["kmnist", "SHA-256 is not the published one"]);
}

#[test]
fn a_page_instead_of_a_file() {
    let mirror = Mirror::serving([(SMALL, b"<html>Please log in to the network</html>".to_vec())]);
    let folder = folder_without(SMALL);
    fails(&folder, &mut download(folder.path(), &[&mirror.url]), &["is not a valid gzip file"]);
}

#[test]
fn a_gzip_bomb_is_not_unpacked() {
    let mut bomb = std::fs::read(real(SMALL)).unwrap();
    bomb.resize(300 << 20, 0);
    let mirror = Mirror::serving([(SMALL, gzip(&bomb))]);
    let folder = folder_without(SMALL);
    fails(&folder, &mut download(folder.path(), &[&mirror.url]), &["has more than 10008 bytes"]);
}

#[test]
fn a_stalled_connection() {
    let folder = folder_without(SMALL);
    let silent = raw_server(Vec::new(), true);
    fails(&folder, download(folder.path(), &[&silent]).args(["--timeout", "0.5"]), &["sent nothing for 0.5 s"]);
    let halfway = raw_server(http_ok(SMALL_GZ.len(), &SMALL_GZ[..2000]), true);
    fails(&folder, download(folder.path(), &[&halfway]).args(["--timeout", "0.5"]), &["sent nothing for 0.5 s"]);
}

#[test]
fn mirrors_are_tried_in_turn() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}/", closed.local_addr().unwrap());
    drop(closed);
    let stalled = raw_server(Vec::new(), true);
    let unknowing = Mirror::serving([]);
    let damaged = Mirror::serving([(SMALL, SMALL_GZ[..1000].to_vec())]);
    let good = Mirror::serving([(SMALL, SMALL_GZ.clone())]);
    let unused = Mirror::serving([(SMALL, SMALL_GZ.clone())]);
    let folder = folder_without(SMALL);
    let mirrors = [&nobody, &stalled, &unknowing.url, &damaged.url, &good.url, &unused.url].map(String::as_str);
    let assert = download(folder.path(), &mirrors).args(["--timeout", "0.5"]).assert().success();
    assert.stdout(predicate::str::contains(format!("fetched from {}/", good.url)));
    assert_eq!(std::fs::read(folder.path().join(SMALL)).unwrap(), std::fs::read(real(SMALL)).unwrap());
    assert_eq!(unknowing.asked().len(), 1);
    assert_eq!(damaged.asked().len(), 1);
    assert_eq!(unused.asked().len(), 0);
    // When all fail, each is named with its reason.
    let folder = folder_without(SMALL);
    let mut command = download(folder.path(), &mirrors[..4]);
    let reasons = [&nobody, "refused", &stalled, "sent nothing", &unknowing.url, "404", &damaged.url];
    fails(&folder, command.args(["--timeout", "0.5"]), &reasons);
}

#[test]
fn the_mirror_that_worked_is_asked_first_for_the_next_file() {
    let labels = "train-labels-idx1-ubyte";
    let folder = folder_without(SMALL);
    std::fs::remove_file(folder.path().join(labels)).unwrap();
    let unknowing = Mirror::serving([]);
    let good = Mirror::serving([(SMALL, SMALL_GZ.clone()), (labels, gzip(&std::fs::read(real(labels)).unwrap()))]);
    download(folder.path(), &[&unknowing.url, &good.url]).assert().success();
    assert_eq!((unknowing.asked().len(), good.asked().len()), (1, 2));
}

#[test]
fn the_files_of_another_dataset_are_not_replaced() {
    let mirror = Mirror::serving([]);
    let folder = folder_without("none");
    let mut command = download(folder.path(), &[&mirror.url]);
    fails(&folder, command.args(["--dataset", "fashion-mnist"]), &["is the file of mnist", "--dataset mnist"]);
    assert!(mirror.asked().is_empty());
}

#[test]
fn a_gzipped_file_that_is_right_is_left_alone() {
    let mirror = Mirror::serving([]);
    let folder = folder_without(SMALL);
    std::fs::write(folder.path().join(format!("{SMALL}.gz")), &*SMALL_GZ).unwrap();
    let assert = download(folder.path(), &[&mirror.url]).assert().success();
    assert.stdout(predicate::str::contains("already there, sha256 ok").count(4));
    assert!(mirror.asked().is_empty());
}

#[test]
fn check_changes_nothing_and_names_what_is_wrong() {
    let folder = folder_without(SMALL);
    let mut command = download(folder.path(), &[]);
    fails(&folder, command.arg("--check"), &[SMALL, "is missing", "tch-mnist download --dataset mnist --data"]);
    std::fs::copy(real(SMALL), folder.path().join(SMALL)).unwrap();
    let assert = download(folder.path(), &[]).arg("--check").assert().success();
    assert.stdout(predicate::str::contains("sha256 ok").count(4));
}

#[test]
fn places_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    fails(&folder, &mut download(&file, &[]), &["file/mnist cannot be made"]);
    let occupied = folder_without(SMALL);
    std::fs::create_dir(occupied.path().join(SMALL)).unwrap();
    fails(&occupied, &mut download(occupied.path(), &[]), &[SMALL, "is a folder", "move it away"]);
}

#[test]
fn flags_that_make_no_sense() {
    let folder = tempfile::tempdir().unwrap();
    for mirror in ["ftp://host/", "host/folder", "http://", ""] {
        let assert = download(folder.path(), &[mirror]).assert().code(2);
        assert.stderr(predicate::str::starts_with(format!("error: --mirror {mirror}")).and(is_one_line()));
    }
    for timeout in ["0", "-1", "nan", "inf", "1e99", "soon"] {
        let assert = download(folder.path(), &[]).arg(format!("--timeout={timeout}")).assert().code(2);
        assert.stderr(predicate::str::contains("--timeout").and(is_one_line()));
    }
    download(folder.path(), &[]).args(["--dataset", "cifar"]).assert().code(2).stderr(is_one_line());
    assert!(listing(folder.path()).is_empty());
}
