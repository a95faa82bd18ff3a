"""Which build of PyTorch scripts/setup installs.

It works in a folder of its own, with two package indexes on loopback and a cargo that does nothing.
"""

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import quote, unquote

import pytest
from common import ROOT

REQUIREMENTS = (ROOT / "scripts/requirements.txt").read_text()
PINS = dict(re.findall(r"^([\w-]+)==([\w.]+)", REQUIREMENTS, re.MULTILINE))
VERSION = PINS["torch"]
# Nothing listens on the discard port.
UNREACHABLE = "http://127.0.0.1:9/whl/cpu"

needs_no_gpu = pytest.mark.skipif(any(Path("/dev").glob("nvidia[0-9]*")), reason="there is an NVIDIA GPU here")


def wheel(name: str, version: str, *files: str, requires: str = "") -> tuple[str, bytes]:
    """Name and bytes of a wheel of empty files."""
    name = name.replace("-", "_")
    about = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    contents = {
        **dict.fromkeys(files, ""),
        f"{about}/METADATA": metadata + (f"Requires-Dist: {requires}\n" if requires else ""),
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    contents[f"{about}/RECORD"] = "".join(f"{path},,\n" for path in [*contents, f"{about}/RECORD"])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, text in contents.items():
            archive.writestr(path, text)
    return f"{name}-{version}-py3-none-any.whl", packed.getvalue()


class Index(ThreadingHTTPServer):
    """A package index (PEP 503) on loopback that remembers what it was asked for."""

    def __init__(self, wheels: list[tuple[str, bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.pages: dict[str, bytes] = {}
        for file, content in wheels:
            project = f"/{file.split('-')[0].replace('_', '-')}/"
            link = f'<a href="{quote(file)}#sha256={hashlib.sha256(content).hexdigest()}">{file}</a>\n'
            self.pages[project] = self.pages.get(project, b"") + link.encode()
            self.pages[project + file] = content
        self.url = f"http://127.0.0.1:{self.server_port}"
        Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    """Serves the pages of an index; every other path is 404."""

    server: Index

    def do_GET(self) -> None:
        """Answers one request."""
        path = unquote(self.path)
        self.server.asked.append(path)
        page = self.server.pages.get(path)
        self.send_response(404 if page is None else 200)
        self.send_header("Content-Type", "application/zip" if path.endswith(".whl") else "text/html")
        self.send_header("Content-Length", str(len(page or b"")))
        self.end_headers()
        self.wfile.write(page or b"")

    def log_message(self, *args: object) -> None:
        """Keeps the log out of the tests' output."""


TORCH = ["torch/__init__.py", "torch/lib/libtorch_cpu.so"]
CUDA = "torch/lib/libtorch_cuda.so"


@pytest.fixture
def cpu_index() -> Iterator[Index]:
    """The index of the CPU build. It has nothing else: what PyTorch depends on comes from PyPI."""
    with Index([wheel("torch", f"{VERSION}+cpu", *TORCH, requires="sympy")]) as index:
        yield index
        index.shutdown()


@pytest.fixture
def pypi() -> Iterator[Index]:
    """An index in place of PyPI: the CUDA build and everything else that scripts/requirements.txt lists."""
    others = [wheel(name, version) for name, version in PINS.items() if name != "torch"]
    torch = wheel("torch", VERSION, *TORCH, CUDA, requires="sympy")
    with Index([torch, wheel("sympy", "1.14.0"), *others]) as index:
        yield index
        index.shutdown()


class Tree:
    """A folder with scripts/setup and the programs that it calls, as on a machine without a GPU."""

    def __init__(self, folder: Path, cpu_index: Index, pypi: Index) -> None:
        self.folder = folder
        (folder / "scripts").mkdir()
        for name in ["setup", "requirements.txt"]:
            shutil.copy(ROOT / "scripts" / name, folder / "scripts" / name)
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in ["cargo", "g++"]:
            self.program(name, "exit 0")
        self.program("nvidia-smi", "echo no devices were found; exit 6")
        built = folder / "target/release/tch-mnist"
        built.parent.mkdir(parents=True)
        built.symlink_to("/bin/true")
        unset = re.compile(r"(?i)pip_|tch_mnist|libtorch$|cargo_target_dir|.*_proxy$")
        self.environment = {name: value for name, value in os.environ.items() if not unset.match(name)} | {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": pypi.url,
            "PIP_NO_CACHE_DIR": "1",
            "TCH_MNIST_TORCH_INDEX": cpu_index.url,
        }

    def program(self, name: str, text: str) -> None:
        """Puts a program in front of the machine's own."""
        (self.bin / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.bin / name).chmod(0o755)

    def setup(self, **environment: str) -> subprocess.CompletedProcess:
        """Calls scripts/setup."""
        command = [self.folder / "scripts/setup", "--no-data"]
        return subprocess.run(command, env=self.environment | environment, capture_output=True, text=True)

    def make_venv(self, *torch: str) -> None:
        """Leaves .venv as an earlier call would, with these files of PyTorch. It has no pip: nothing should call it."""
        venv = self.folder / ".venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
        for file in torch:
            path = self.packages() / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        shutil.copy(self.folder / "scripts/requirements.txt", venv / "requirements.stamp")

    def packages(self) -> Path:
        """Where .venv holds its packages."""
        return next((self.folder / ".venv/lib").glob("python3*/site-packages"))

    def has_cuda(self) -> bool:
        """Whether .venv holds PyTorch's CUDA build."""
        return (self.packages() / CUDA).exists()

    def installed(self) -> dict[str, str]:
        """The packages of scripts/requirements.txt that .venv holds, with their versions."""
        names = [path.name.removesuffix(".dist-info").rsplit("-", 1) for path in self.packages().glob("*.dist-info")]
        versions = {name.replace("_", "-"): version for name, version in names}
        return {name: version for name, version in versions.items() if name in PINS}

    def libtorch(self) -> str:
        """The LIBTORCH that cargo reads from its configuration."""
        return re.findall(r'^LIBTORCH = "(.*)"$', (self.folder / ".cargo/config.toml").read_text(), re.MULTILINE)[0]


@pytest.fixture
def tree(tmp_path: Path, cpu_index: Index, pypi: Index) -> Tree:
    return Tree(tmp_path, cpu_index, pypi)


WITHOUT_CUDA = {**PINS, "torch": f"{VERSION}+cpu"}
del WITHOUT_CUDA["nvidia-cuda-crt"]


@needs_no_gpu
def test_without_a_gpu_the_cpu_build_is_installed_from_its_own_index(tree: Tree, cpu_index: Index, pypi: Index) -> None:
    done = tree.setup()
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == (
        "setup: PyTorch's CPU build (some 200 MB), because there is no NVIDIA GPU; "
        "TCH_MNIST_TORCH=cuda scripts/setup installs the CUDA build (some 5 GB)"
    )
    assert tree.installed() == WITHOUT_CUDA
    assert not tree.has_cuda()
    assert not [path for path in pypi.asked if path.startswith("/torch/torch-")]

    # A call that finds everything in place asks no index, even if the choice would be another one now.
    cpu_index.asked.clear()
    pypi.asked.clear()
    tree.program("nvidia-smi", "echo 'GPU 0: NVIDIA H100 (UUID: GPU-0)'")
    done = tree.setup()
    assert (done.returncode, done.stderr) == (0, "")
    assert cpu_index.asked == pypi.asked == []


@needs_no_gpu
def test_without_its_index_the_cuda_build_is_installed_from_pypi(tree: Tree) -> None:
    done = tree.setup(TCH_MNIST_TORCH_INDEX=UNREACHABLE)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == (
        f"setup: PyTorch's CUDA build (some 5 GB) from PyPI, because {UNREACHABLE} cannot be reached or has no CPU "
        f"build of {VERSION}; TCH_MNIST_TORCH_INDEX names another index"
    )
    assert tree.installed() == PINS
    assert tree.has_cuda()


@pytest.mark.parametrize(
    ("gpu", "environment", "reason"),
    [
        ("GPU 0: NVIDIA H100 (UUID: GPU-0)", {}, "because there is an NVIDIA GPU"),
        ("no devices were found", {"TCH_MNIST_TORCH": "cuda"}, "as TCH_MNIST_TORCH asks"),
    ],
)
def test_the_cuda_build_is_for_a_gpu_or_on_request(
    tree: Tree, cpu_index: Index, gpu: str, environment: dict[str, str], reason: str
) -> None:
    tree.program("nvidia-smi", f"echo '{gpu}'")
    done = tree.setup(**environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == (
        f"setup: PyTorch's CUDA build (some 5 GB), {reason}; "
        "TCH_MNIST_TORCH=cpu scripts/setup installs the CPU build (some 200 MB)"
    )
    assert tree.installed() == PINS
    assert tree.has_cuda()
    assert cpu_index.asked == []


def test_a_cuda_build_that_is_there_is_kept(tree: Tree, cpu_index: Index, pypi: Index) -> None:
    tree.make_venv(*TORCH, CUDA)
    first, second = tree.setup(), tree.setup(TCH_MNIST_TORCH="cuda")
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert first.stderr == f"setup: wrote .cargo/config.toml: LIBTORCH is {tree.packages()}/torch\n"
    assert second.stderr == ""
    assert tree.has_cuda()
    assert cpu_index.asked == pypi.asked == []


def test_the_cpu_build_replaces_the_cuda_build_on_request(tree: Tree) -> None:
    tree.make_venv(*TORCH, CUDA)
    assert tree.setup().returncode == 0
    before = tree.libtorch()
    done = tree.setup(TCH_MNIST_TORCH="cpu")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[:2] == [
        "setup: PyTorch's CPU build (some 200 MB), as TCH_MNIST_TORCH asks; "
        "TCH_MNIST_TORCH=cuda scripts/setup installs the CUDA build (some 5 GB)",
        "setup: it replaces the cuda build in .venv",
    ]
    assert tree.installed() == WITHOUT_CUDA
    assert not tree.has_cuda()
    # The same folder by another name: cargo builds anew what it linked to libtorch_cuda.
    assert tree.libtorch() != before
    assert os.path.samefile(tree.libtorch(), before)


@pytest.mark.parametrize("trouble", ["no index", "no page", "no such release"])
def test_a_cuda_build_is_kept_if_the_cpu_build_cannot_be_had(tree: Tree, cpu_index: Index, trouble: str) -> None:
    tree.make_venv(*TORCH, CUDA)
    address = UNREACHABLE if trouble == "no index" else cpu_index.url
    if trouble == "no page":
        cpu_index.pages.clear()
    if trouble == "no such release":
        cpu_index.pages["/torch/"] = cpu_index.pages["/torch/"].replace(VERSION.encode(), b"2.10.0")
    done = tree.setup(TCH_MNIST_TORCH="cpu", TCH_MNIST_TORCH_INDEX=address)
    assert done.returncode == 0, done.stderr
    first, second = done.stderr.splitlines()[:2]
    assert f"because {address} cannot be reached or has no CPU build of {VERSION}" in first
    assert second == "setup: it is in .venv already"
    assert tree.has_cuda()


def test_new_requirements_do_not_change_the_build(tree: Tree) -> None:
    tree.make_venv(*TORCH)
    with (tree.folder / "scripts/requirements.txt").open("a") as file:
        file.write("sympy==1.14.0\n")
    tree.program("nvidia-smi", "echo 'GPU 0: NVIDIA H100 (UUID: GPU-0)'")
    done = tree.setup()
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("setup: PyTorch's CPU build (some 200 MB), as before; ")
    assert tree.installed() == WITHOUT_CUDA


def test_a_cpu_build_that_does_not_arrive_whole_is_an_error(tree: Tree, cpu_index: Index) -> None:
    for path in [path for path in cpu_index.pages if path.endswith(".whl")]:
        del cpu_index.pages[path]
    done = tree.setup(TCH_MNIST_TORCH="cpu")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"error: pip could not install PyTorch's CPU build from {cpu_index.url} (its own words are above): "
        "run this again, or take the CUDA build with TCH_MNIST_TORCH=cuda"
    )
    assert not (tree.folder / ".venv/requirements.stamp").exists()


def test_another_value_is_a_usage_error(tree: Tree) -> None:
    done = tree.setup(TCH_MNIST_TORCH="gpu")
    assert done.returncode == 2
    assert done.stderr == "error: scripts/setup: TCH_MNIST_TORCH is cpu or cuda, not 'gpu'\n"
    assert not (tree.folder / ".venv").exists()
