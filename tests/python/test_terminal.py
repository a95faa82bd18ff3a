"""The progress of a run on a terminal: a bar that fits, and no half line is left."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from common import PROGRAM
from conftest import DATA

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def resize(terminal: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))


def train(
    out: Path, columns: int, *flags: str, on_bar: Callable[[int], None] = lambda _: None, **environment: str
) -> tuple[str, int]:
    """What a run shows on a terminal, and its exit code; `on_bar` gets the terminal when the bar has been drawn."""
    terminal, inside = pty.openpty()
    resize(terminal, columns)
    command = [PROGRAM, "train", "--data", DATA, "--device", "cpu", "--threads", "1", "--limit-test", "100"]
    command += ["--report=false", "--tensorboard=false", "--batch-size", "16", "--out", out, *flags]
    hidden = ["CI", "JPY_PARENT_PID"]
    env = {key: value for key, value in os.environ.items() if key not in hidden} | {"TERM": "xterm"} | environment
    process = subprocess.Popen(
        command,
        stdin=inside,
        stdout=inside,
        stderr=inside,
        env=env,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(inside)
    shown, is_told = b"", False
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # the terminal's other end is closed
            break
        if not part:
            break
        shown += part
        if not is_told and b"it/s]" in shown:
            is_told = True
            on_bar(terminal)
    os.close(terminal)
    return shown.decode(), process.wait(timeout=60)


BAR = re.compile(r"loss=\d\.\d{4} batch_id=\d+: +\d+%\|.{10}\| \d+/\d+ \[\d\d:\d\d<\d\d:\d\d, +[\d.]+it/s\]")


def screen(shown: str, columns: int) -> list[str]:
    """The lines that such a terminal has at the end; the cursor is in the last one."""
    rows: list[list[str]] = [[]]
    row = column = 0
    for mark in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|.", shown, re.DOTALL):
        if mark == "\r":
            column = 0
        elif mark == "\n":
            row += 1
        elif mark.endswith("A") and len(mark) > 1:
            row -= int(mark[2:-1] or 1)
        elif mark.endswith("B") and len(mark) > 1:
            row += int(mark[2:-1] or 1)
        elif mark.endswith("K") and len(mark) > 1:
            rows[row] = []
        elif len(mark) == 1:
            if column == columns:  # the line is full: the next one begins
                row, column = row + 1, 0
            rows += [[] for _ in range(row + 1 - len(rows))]
            line = rows[row]
            line += " " * (column + 1 - len(line))
            line[column] = mark
            column += 1
        rows += [[] for _ in range(row + 1 - len(rows))]
    assert row == len(rows) - 1
    return ["".join(line).rstrip() for line in rows]


@pytest.mark.parametrize("columns", [120, 80, 50, 24])
def test_the_bar_fits_into_the_terminal(tmp_path: Path, columns: int) -> None:
    shown, code = train(tmp_path / "run", columns, "--limit-train", "640", "--epochs", "1")
    drawn = [line for line in re.split(r"[\r\n]+", CONTROL.sub("", shown)) if re.search(r"\d%\|", line)]
    assert code == 0
    assert len(drawn) > 1
    assert max(map(len, drawn)) <= columns, drawn
    bars = [line for line in screen(shown, columns) if re.search(r"\d%\|", line)]
    assert len(bars) == 1, bars
    assert "100%|██████████| 40/40" in bars[0]
    assert bool(BAR.fullmatch(bars[0])) == (columns >= 80), bars
    # The bar is in the place of the lines that a pipe gets.
    assert "train loss" not in shown


def test_ctrl_c_leaves_no_half_line(tmp_path: Path) -> None:
    flags = ["--limit-train", "60000", "--epochs", "9"]
    shown, code = train(tmp_path / "run", 80, *flags, on_bar=lambda terminal: os.write(terminal, b"\x03"))
    assert code == 130
    lines = screen(shown, 80)
    assert lines[-1] == ""
    assert any(line.startswith(" WARN interrupted; everything is saved") for line in lines), lines
    bars = [line for line in lines if "batch_id" in line]
    assert bars
    assert all(BAR.fullmatch(line) for line in bars), bars


def test_a_narrower_terminal_has_no_rest_of_the_wider_bar(tmp_path: Path) -> None:
    def narrow(terminal: int) -> None:
        resize(terminal, 40)
        time.sleep(0.2)

    shown, code = train(tmp_path / "run", 80, "--limit-train", "6400", "--epochs", "1", on_bar=narrow)
    assert code == 0
    # The terminal has made two lines of the wide one: the upper one is cleared, too.
    up, clear = "\x1b[1A", "\x1b[2K"
    assert re.search(f"{re.escape(up)}[\r]?{re.escape(clear)}", shown), shown[-2000:]
    last = [line for line in re.split(r"[\r\n]+", CONTROL.sub("", shown)) if re.search(r"\d%\|", line)][-1]
    assert len(last) <= 40, last


@pytest.mark.parametrize("variable", ["TERM=dumb", "CI=true", "JPY_PARENT_PID=1"])
def test_a_terminal_that_cannot_redraw_gets_lines(tmp_path: Path, variable: str) -> None:
    name, _, value = variable.partition("=")
    shown, code = train(tmp_path / "run", 80, "--limit-train", "640", "--epochs", "1", **{name: value})
    assert code == 0
    assert "it/s" not in shown
    assert " INFO epoch 0: train loss" in shown
