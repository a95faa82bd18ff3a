"""The HTTP interface of `serve`: many requests at a time, bad ones, and the end."""

import binascii
import contextlib
import http.client
import json
import random
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import own_digits
import pytest
from common import PROGRAM
from conftest import tch_mnist


@contextlib.contextmanager
def serving(weights: Path, *flags: str) -> Iterator[tuple[subprocess.Popen, int]]:
    command = [PROGRAM, "serve", "--weights", weights, "--port", "0", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        port = int(server.stdout.readline().split("/ ")[0].rsplit(":", 1)[1])
        yield server, port
        server.kill()


@pytest.fixture
def server(trained: Path) -> Iterator[tuple[subprocess.Popen, int]]:
    with serving(trained / "model.pt") as server:
        yield server


def endpoints() -> list[tuple[str, str]]:
    """The method and the path of every endpoint, as the program lists them."""
    found = re.findall(r"^ +(GET|POST|PUT|DELETE) (/\S*)", tch_mnist("serve", "--help"), re.MULTILINE)
    assert ("GET", "/") in found
    assert ("POST", "/predict") in found
    return found


def ask(port: int, body: bytes, path: str = "/predict", kind: str = "image/png") -> tuple[int, dict]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", path, body=body, headers={"Content-Type": kind})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def status(port: int, request: bytes) -> bytes:
    """The first line of the answer to raw bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        # The server may answer and close before it has read all of a request.
        with contextlib.suppress(OSError):
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
        return connection.recv(4096).split(b"\r\n")[0]


def post(body: bytes, path: str = "/predict", method: str = "POST", host: str = "localhost") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def test_eight_connections_get_what_predict_says(
    trained: Path, tmp_path: Path, server: tuple[subprocess.Popen, int]
) -> None:
    _, port = server
    pictures = own_digits.write(tmp_path / "own", seed=5)[::4]
    text = tch_mnist("predict", "--weights", trained / "model.pt", "--kernels", "torch", "--format", "json", *pictures)
    expected = [json.loads(line)["number"] for line in text.splitlines()]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda path: ask(port, path.read_bytes()), 4 * pictures))
    assert [code for code, _ in answers] == [200] * len(answers)
    assert [answer["number"] for _, answer in answers] == 4 * expected
    code, detailed = ask(port, pictures[0].read_bytes(), "/predict?details=true&one=true")
    assert (code, len(detailed["digits"])) == (200, 1)
    names = [layer["name"] for layer in detailed["digits"][0]["layers"]]
    assert names[:4] == ["convblock1", "convblock2", "convblock3", "pool1"]


def test_a_picture_is_read_in_whatever_form_it_is_sent(tmp_path: Path, server: tuple[subprocess.Popen, int]) -> None:
    _, port = server
    picture = own_digits.write(tmp_path / "own", seed=5)[0].read_bytes()
    base64 = binascii.b2a_base64(picture, newline=False)
    part = b'Content-Disposition: form-data; name="any"; filename="own.png"\r\nContent-Type: image/png'
    form = b"--XyZ\r\n" + part + b"\r\n\r\n" + picture + b"\r\n--XyZ--\r\n"
    expected = ask(port, picture)
    assert expected[0] == 200
    for kind, body in [
        ("multipart/form-data; boundary=XyZ", form),
        ("application/json", b'{"image": "' + base64 + b'"}'),
        ("application/x-www-form-urlencoded", b'{"image": "data:image/png;base64,' + base64 + b'"}'),
        ("text/plain", b"data:image/png;base64," + base64),
        ("application/octet-stream", picture),
    ]:
        assert ask(port, body, kind=kind) == expected, kind
    code, answer = ask(port, form[:-20], kind="multipart/form-data; boundary=XyZ")
    assert code == 400
    assert answer["error"].startswith("the form is damaged: ")


def test_pages_of_the_sites_that_cors_names_are_answered(trained: Path) -> None:
    def headers(port: int, method: str, origin: str) -> tuple[int, str | None]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        given = {"Origin": origin, "Sec-Fetch-Site": "cross-site", "Access-Control-Request-Method": "POST"}
        connection.request(method, "/health", headers=given)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Access-Control-Allow-Origin")

    with serving(trained / "model.pt", "--cors", "https://example.org") as (_, port):
        for method in ["GET", "OPTIONS"]:
            assert headers(port, method, "https://example.org") == (200, "https://example.org")
            assert headers(port, method, "https://evil.example") == (403, None)
    command = [PROGRAM, "serve", "--weights", trained / "model.pt", "--cors", "example.org"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "--cors takes a site such as https://example.org" in done.stderr


def test_a_page_of_a_tiff_is_asked_for(tmp_path: Path, server: tuple[subprocess.Popen, int]) -> None:
    _, port = server
    hand = own_digits.Hand(own_digits.DATA, seed=3)
    read = {}
    for digit in range(10):
        image = hand.write((200, 200), [(digit, 160, 20, 20)], (255,) * 3, (20,) * 3)
        image.copy().save(tmp_path / "one.png")  # A save leaves its settings in an image.
        read[ask(port, (tmp_path / "one.png").read_bytes(), "/predict")[1]["number"]] = image
    # The net is hardly trained: two that it tells apart.
    numbers, pages = list(read)[:2], list(read.values())[:2]
    pages[0].save(tmp_path / "two.tif", save_all=True, append_images=pages[1:])
    file = (tmp_path / "two.tif").read_bytes()
    for path, page in [("/predict", 1), ("/predict?page=1", 1), ("/predict?page=2", 2)]:
        code, answer = ask(port, file, path)
        assert (code, answer["page"], answer["pages"]) == (200, page, 2)
        assert answer["number"] == numbers[page - 1]
    code, answer = ask(port, file, "/predict?page=3")
    assert code == 400
    assert "there is no page 3: the pages are 1 to 2" in answer["error"]


def test_bad_requests_are_answered_and_the_server_goes_on(tmp_path: Path, server: tuple[subprocess.Popen, int]) -> None:
    process, port = server
    good = own_digits.write(tmp_path / "own", seed=5)[0].read_bytes()
    bad = [
        *(post(body) for body in [b"", b"hello", good[:200], good[:-900], b"P5 99999 99999 255\n", b"%PDF-1.4"]),
        *(post(b"", path) for path in ["/", "/health", "/nothing", "/predict?details=perhaps", "/../etc/passwd"]),
        *(post(b"", "/predict", method) for method in ["GET", "PUT", "DELETE", "BREW"]),
        b"GARBAGE\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\nabc",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 3000 + b"\r\n",
    ]
    draw = random.Random(1)
    while len(bad) < 50:
        damaged = bytearray(good)
        for _ in range(40):
            damaged[draw.randrange(8, len(damaged))] = draw.randrange(256)
        bad.append(post(bytes(damaged)))
    for request in bad:
        assert status(port, request).startswith(b"HTTP/1.1 4"), request[:80]
    code, answer = ask(port, bytes(33 << 20))
    assert (code, answer) == (413, {"error": "the picture has more than 32 MiB"})
    foreign = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\nContent-Length: 0\r\n\r\n"
    assert status(port, foreign).startswith(b"HTTP/1.1 403")
    code, answer = ask(port, good, "/predict?oen=true")
    assert (code, answer) == (
        400,
        {"error": "only details and one can be given, each true or false, and page, a number"},
    )
    code, answer = ask(port, good, kind="multipart/form-data; boundary=x")
    assert (code, answer["error"].startswith("the form is damaged: ")) == (400, True)
    code, answer = ask(port, b"hello")
    assert code == 400
    assert answer["error"].startswith("the picture cannot be read: it is not a picture")
    assert ask(port, good)[0] == 200
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0


def test_every_endpoint_answers_its_method_alone(server: tuple[subprocess.Popen, int]) -> None:
    _, port = server
    for method, path in endpoints():
        answered = status(port, post(b"", path, method))
        assert not answered.startswith((b"HTTP/1.1 404", b"HTTP/1.1 405", b"HTTP/1.1 5")), (method, path, answered)
        assert status(port, post(b"", path, "PATCH")).startswith(b"HTTP/1.1 405"), path
    code, answer = ask(port, b"", "/health")
    assert code == 405
    assert all(f"{method} {path}" in answer["error"] for method, path in endpoints())


def test_a_name_that_is_not_this_machines_is_not_answered(trained: Path) -> None:
    with serving(trained / "model.pt", "--host", "localhost", "--allow-host", "mybox") as (_, port):
        for method, path in [*endpoints(), ("GET", "/nothing")]:
            for host in ["evil.example", f"evil.example:{port}", "localhost.evil.example", "mybox.evil.example", ""]:
                answered = status(port, post(b"", path, method, host))
                assert answered.startswith(b"HTTP/1.1 403"), (method, path, host, answered)
        for host in ["localhost", f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", f"MyBox:{port}"]:
            assert status(port, post(b"", "/health", "GET", host)).startswith(b"HTTP/1.1 200"), host
        twice = b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
        assert status(port, twice).startswith(b"HTTP/1.1 4")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/health", headers={"Host": "evil.example"})
        sentence = json.loads(connection.getresponse().read())["error"]
        assert sentence == "the host evil.example is not answered for: start the server with --allow-host evil.example"


def test_a_host_that_is_none_is_one_sentence(trained: Path) -> None:
    for host, sentence, code in [
        ("300.1.1.1", "--host takes an IP address or a name of this machine, such as 127.0.0.1 or localhost, not", 2),
        ("no-such-host.invalid", "cannot listen on no-such-host.invalid:8000", 1),
    ]:
        command = [PROGRAM, "serve", "--weights", trained / "model.pt", "--host", host]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.returncode, sentence in done.stderr) == (code, True), done.stderr


def test_a_port_that_is_taken_is_one_sentence(trained: Path, server: tuple[subprocess.Popen, int]) -> None:
    _, port = server
    command = [PROGRAM, "serve", "--weights", trained / "model.pt", "--port", str(port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: choose another --port" in done.stderr
