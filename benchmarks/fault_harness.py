"""Starting the commands that `faults.py` disturbs, and seeing what they leave behind."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

from fault_commands import STOPPED, TRAIN, TRAIN_TABLE, WORKS, Content, Work

from dualdiff_cli import seeding
from dualdiff_cli.store.run import Run

__all__ = ["LONGEST", "Harness", "listens"]

LONGEST = 600.0
"""A command that takes longer, in seconds, has not heard what it was sent."""
READ = "whole"
"""The run that the commands sample from, evaluate and export."""
JOBS = ("animate", "compare", "evaluate", "explore", "export", "impute", "report", "sample", "train")
LOADED = [
    "torch",
    "dualdiff_cli.cli.app",
    "dualdiff_cli.paper.reproduce",
    *(f"dualdiff_cli.jobs.{job}" for job in JOBS),
]
"""The modules of the process that most tries are forks of."""


def be_the_program(words: tuple[str, ...], folder: Path, cold: bool, largest: int | None) -> None:
    """Do in this process what the console script does.

    Args:
        words: of the command.
        folder: the working directory.
        cold: whether a new interpreter is started.
        largest: the size in bytes beyond which no file can grow; None for no limit.

    """
    os.setsid()  # a group of its own, which can be killed with the processes that the program starts
    os.chdir(folder)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)  # `nohup` may have let this process ignore it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    if largest is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    if cold:
        os.execv(sys.executable, [sys.executable, "-m", "dualdiff_cli", *words])
    from dualdiff_cli.__main__ import main

    sys.argv[1:] = words
    main()


class Harness:
    """Starts commands, and sees what they leave behind.

    Args:
        folder: where the commands run.
        draws: gives the moments.
        cold: the share of tries that start a new interpreter.

    """

    def __init__(self, folder: Path, draws: random.Random, cold: float) -> None:
        self.folder, self.draws, self._cold = folder, draws, cold
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["__main__", *LOADED])
        self.seconds: dict[str, float] = {}
        self.whole: dict[str, Content] = {}
        self.largest: dict[str, int] = {}

    def start(self, work: Work, out: Path, *, largest: int | None = None) -> BaseProcess:
        """Start a command, or go on with what is there of its results."""
        return self._start(work.start(out), cold=work.always_cold, largest=largest)

    def _start(self, words: tuple[str, ...], *, cold: bool, largest: int | None = None) -> BaseProcess:
        cold = self.draws.random() < self._cold or cold
        program = self._context.Process(target=be_the_program, args=(words, self.folder, cold, largest))
        program.start()
        return program

    def said(self) -> str:
        """Give what the last command wrote to standard error."""
        return (self.folder / "said.txt").read_text(encoding="utf-8", errors="replace")

    def finish(self, words: tuple[str, ...], *, cold: bool = False) -> float:
        """Run a command that has to succeed; give the time that it takes, in seconds."""
        started = time.monotonic()
        program = self._start(words, cold=cold)
        program.join()
        if program.exitcode:
            raise SystemExit(f"{' '.join(words)} ended in {program.exitcode}: {self.said()}")
        return time.monotonic() - started

    def prepare(self) -> None:
        """Make the runs that the commands need."""
        rng = seeding.stream(0, "a table with gaps")
        rows = [[f"{value:.4f}" if rng.random() > 0.1 else "" for value in rng.normal(size=3)] for _ in range(120)]
        text = "a,b,c\n" + "".join(",".join(row) + "\n" for row in rows)
        (self.folder / "gaps.csv").write_text(text, encoding="utf-8")
        self.finish((*TRAIN, "--run-dir", READ))
        self.finish((*TRAIN_TABLE, "--run-dir", "table"))

    def learn(self, name: str) -> None:
        """Let a command finish once, to know how long it takes and what it makes."""
        if name in self.seconds:
            return
        work = STOPPED[name]
        out = self.clean(work)
        self.seconds[name] = self.finish(work.start(out), cold=work.always_cold)
        if name in WORKS:
            self.whole[name] = work.content(out)
            files = [out, *out.rglob("*")]
            self.largest[name] = max(path.stat().st_size for path in files if path.is_file())
            if not self.whole[name]:
                raise SystemExit(f"{name} made nothing to compare.")

    def note_time(self, name: str, seconds: float) -> None:
        """Follow the time that a command takes, which depends on how busy the machine is."""
        self.seconds[name] = (self.seconds[name] + seconds) / 2

    def clean(self, work: Work) -> Path:
        """Remove what earlier tries left; give the path of the results."""
        for path in self.folder.iterdir():
            if path.name.lstrip(".").startswith("out"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return self.folder / work.output.replace("OUT", "out")

    def clean_if_not_begun(self, work: Work, out: Path) -> None:
        """Remove a directory in which no run was begun: its command starts over, and wants an empty one."""
        if not work.makes_file and not (out / "config.toml").exists() and work.again:
            self.clean(work)

    def damage(self, name: str, out: Path) -> str | None:
        """Say what is not whole; None where all is."""
        work = STOPPED[name]
        if work.makes_file:
            part = out.exists() and name in self.whole and work.content(out) != self.whole[name]
            return f"{out.name} is not whole" if part else None
        for place in (out, self.folder / READ):  # `evaluate` leaves its record in the run that it reads
            for config in place.rglob("config.toml"):
                try:
                    _read_all(Run(config.parent))
                except Exception as error:
                    return str(error)
        return None

    def is_equal(self, name: str, out: Path) -> bool:
        """Say whether the results are those of the command that nothing disturbed."""
        return WORKS[name].content(out) == self.whole[name]


def _read_all(run: Run) -> None:
    """Read every file of a run."""
    run.load_state()
    run.load_metrics()
    run.load_data()
    run.load_environment()
    run.load_evaluation()
    run.load_training()
    if run.is_trained:
        run.load_model()
    run.config.to_toml()


def listens(pid: int) -> bool:
    """Say whether a process has a handler for SIGTERM, which Python itself has not; true where there is no /proc."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return True
    return bool(int(status.split("SigCgt:")[1].split()[0], 16) >> (signal.SIGTERM - 1) & 1)
