"""The plugin of pytest that collects what the checks find: a table as they go, and JSON after each of them."""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import machine
import pytest
import torch
from common import write_json

from gpu_checking.context import Context

VERDICTS = {True: "kept", False: "BROKEN", None: ""}


class Report:
    """All findings, by check."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args, self.folder = args, folder
        self.began = time.perf_counter()
        self.checks: list[dict] = []
        print(f"on {machine.name(args.device)}, PyTorch {torch.__version__}, program {args.program}\n")
        print("| check | what | measured | promise |\n|---|---|---|---|", flush=True)

    @pytest.fixture(scope="session")
    def context(self) -> Context:
        """The machine and the program under test."""
        return Context(self.args, self.folder)

    @pytest.fixture(scope="session")
    def finding(self) -> object:
        """Takes what was measured, whether that is as promised (None: nothing was promised), and numbers."""
        return self.add

    def add(self, what: str, measured: str, kept: bool | None = None, **numbers: object) -> None:
        """Prints a row of the table."""
        check = self.checks[-1]
        check["findings"].append({"what": what, "measured": measured, "kept": kept, "numbers": numbers})
        print(f"| {check['name']} | {what} | {measured} | {VERDICTS[kept]} |", flush=True)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        """Runs a check. Whatever happens in one, the others are still of interest."""
        began, check = time.perf_counter(), {"name": item.path.stem, "findings": []}
        self.checks.append(check)
        try:
            yield
        except Exception as error:
            said = str(error) if type(error) is AssertionError else f"{type(error).__name__}: {error}"
            self.add("it runs to its end", said.strip().splitlines()[0], False)
        check["seconds"] = time.perf_counter() - began
        # After each check: a machine may be lent for a while only.
        if self.args.out:
            named = {"machine": machine.name(self.args.device), "torch": torch.__version__, "settings": vars(self.args)}
            kept, seconds = not self.count(False), time.perf_counter() - self.began
            write_json(self.args.out, {**named, "kept": kept, "seconds": seconds, "checks": self.checks})
        assert all(finding["kept"] is not False for finding in check["findings"])

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A check that cannot be imported."""
        if report.failed:
            print(report.longreprtext, flush=True)

    def count(self, kept: bool) -> int:
        """How many promises were kept, or broken."""
        return sum(finding["kept"] is kept for check in self.checks for finding in check["findings"])

    def pytest_sessionfinish(self) -> None:
        """The last line."""
        seconds = time.perf_counter() - self.began
        print(f"\n{self.count(True)} promises kept, {self.count(False)} broken, in {seconds:.0f} s", flush=True)
