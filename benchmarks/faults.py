"""Kill and interrupt the real program at random moments, and see that nothing is lost.

    python benchmarks/faults.py --kills 100 --signals 100 --minutes 30 --seed 1
    python benchmarks/faults.py --kills 100 --signals 0 --command export impute

Each command is killed with SIGKILL at a random moment and started again, with the words that a user would use, until
it finishes: at the latest after six kills. Its results must then equal those of the same command that nobody killed:
weights, logs, rows and exported files byte for byte, and the scores of `reproduce` and `compare`. After each kill every
file under its own name must be whole. A second part sends SIGINT, SIGTERM or SIGHUP, one to three of them, at random
moments of many commands: the exit code must be 130, or 0 where the command was already done, standard error must hold
no traceback, and no file may be half-written.

A try is the real program in a process of its own. Most of these processes are forks of one that has loaded the
libraries, so that the moments fall into the work; the share `--cold` of them starts a new interpreter. The figures are
printed at the end; the exit code is 1 if anything was lost.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path

from fault_commands import STOPPED, TRAIN, TRAIN_TABLE, WORKS, Content, Work

from dualdiff_cli import seeding
from dualdiff_cli.store.run import Run

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MOST_KILLS = 6
"""A command is killed so many times at most before it may finish."""
LONGEST = 600.0
"""A command that takes longer, in seconds, has not heard what it was sent."""
JOBS = ("animate", "compare", "evaluate", "explore", "export", "impute", "report", "sample", "train")
LOADED = [
    "torch",
    "dualdiff_cli.cli.app",
    "dualdiff_cli.paper.reproduce",
    *(f"dualdiff_cli.jobs.{job}" for job in JOBS),
]
"""The modules of the process that most tries are forks of."""


def be_the_program(words: tuple[str, ...], folder: Path, cold: bool) -> None:
    """Do in this process what the console script does; for ``cold`` in a new interpreter."""
    os.chdir(folder)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)  # `nohup` may have let this process ignore it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
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

    def start(self, words: tuple[str, ...], *, always_cold: bool = False) -> BaseProcess:
        """Start a command."""
        cold = self.draws.random() < self._cold or always_cold
        program = self._context.Process(target=be_the_program, args=(words, self.folder, cold))
        program.start()
        return program

    def said(self) -> str:
        """Give what the last command wrote to standard error."""
        return (self.folder / "said.txt").read_text(encoding="utf-8", errors="replace")

    def finish(self, words: tuple[str, ...], *, always_cold: bool = False) -> float:
        """Run a command that has to succeed; give the time that it takes, in seconds."""
        started = time.monotonic()
        program = self.start(words, always_cold=always_cold)
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
        self.finish((*TRAIN, "--run-dir", "whole"))
        self.finish((*TRAIN_TABLE, "--run-dir", "table"))

    def learn(self, name: str) -> None:
        """Let a command finish once, to know how long it takes and what it makes."""
        if name in self.seconds:
            return
        work = STOPPED[name]
        out = self.clean(work)
        self.seconds[name] = self.finish(work.start(out), always_cold=work.always_cold)
        if name in WORKS:
            self.whole[name] = work.content(out)
            if not self.whole[name]:
                raise SystemExit(f"{name} made nothing to compare.")

    def clean(self, work: Work) -> Path:
        """Remove what earlier tries left; give the path of the results."""
        for path in self.folder.iterdir():
            if path.name.lstrip(".").startswith("out"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return self.folder / work.output.replace("OUT", "out")

    def damage(self, name: str, out: Path) -> str | None:
        """Say what is not whole after a kill; None where all is."""
        work = STOPPED[name]
        if work.makes_file:
            part = out.exists() and name in self.whole and work.content(out) != self.whole[name]
            return f"{out.name} is not whole" if part else None
        for config in out.rglob("config.toml"):
            try:
                read_all(Run(config.parent))
            except Exception as error:
                return str(error)
        return None


def read_all(run: Run) -> None:
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


def kill(harness: Harness, names: list[str], kills: int, until: float) -> dict[str, Counter[str]]:
    """Kill the commands in turn, each until it finishes, until there have been so many kills or the time is up."""
    done = {name: Counter[str]() for name in names}
    while sum(count["kills"] for count in done.values()) < kills and time.monotonic() < until:
        name = min(names, key=lambda name: done[name]["kills"])
        work, count = WORKS[name], done[name]
        harness.learn(name)
        out, mine = harness.clean(work), 0
        while True:
            program = harness.start(work.start(out), always_cold=work.always_cold)
            if mine < MOST_KILLS:
                program.join(harness.draws.uniform(0, 1.1 * harness.seconds[name]))
                program.kill()
            program.join()
            if program.exitcode != -signal.SIGKILL:
                break
            mine += 1
            count["kills"] += 1
            if problem := harness.damage(name, out):
                count["damaged"] += 1
                print(f"{name}: {problem}", flush=True)
            if not work.makes_file and not (out / "config.toml").exists() and work.again:
                harness.clean(work)  # no run was begun
        count["finished"] += 1
        equal = program.exitcode == 0 and work.content(out) == harness.whole[name]
        count["equal"] += equal
        if not equal:
            print(f"{name} ended in {program.exitcode} after {mine} kills: {harness.said()}", flush=True)
        print(name, json.dumps(count), flush=True)
    return done


def send_signals(harness: Harness, names: list[str], tries: int, until: float) -> dict[str, Counter[str]]:
    """Send one to three signals at random moments of the commands in turn; count what the commands answered."""
    done = {name: Counter[str]() for name in names}
    for number in range(tries):
        if time.monotonic() > until:
            break
        name = names[number % len(names)]
        work, count = STOPPED[name], done[name]
        harness.learn(name)
        out = harness.clean(work)
        program = harness.start(work.start(out), always_cold=work.always_cold)
        while program.is_alive() and not listens(program.pid or 0):
            time.sleep(0.001)
        program.join(harness.draws.uniform(0, harness.seconds[name]))
        for _ in range(harness.draws.choice((1, 1, 2, 3))):
            if program.is_alive():
                os.kill(program.pid or 0, harness.draws.choice(SIGNALS))
            program.join(harness.draws.choice((0, 0, 0.01, 0.1)))
        program.join(LONGEST)
        program.kill()
        program.join()
        said, code = harness.said(), program.exitcode
        problem = "a traceback" if "Traceback" in said else harness.damage(name, out)
        if code and work.makes_file and out.exists():
            problem = f"{out.name} is there"
        if code not in (0, 130) or problem:
            count["outside the contract"] += 1
            print(f"{name} ended in {code}; {problem}: {said}", flush=True)
        else:
            count["exit code 130" if code else "already done"] += 1
        count["tries"] += 1
        print(name, json.dumps(count), flush=True)
    return done


def listens(pid: int) -> bool:
    """Say whether a process has a handler for SIGTERM, which Python itself has not; true where there is no /proc."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return True
    return bool(int(status.split("SigCgt:")[1].split()[0], 16) >> (signal.SIGTERM - 1) & 1)


def main() -> int:
    """Read the options, and do both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="number of SIGKILLs")
    parser.add_argument("--signals", type=int, default=20, help="number of commands that are asked to stop")
    parser.add_argument("--minutes", type=float, default=60.0, help="time after which no further fault is made, a part")
    parser.add_argument("--command", nargs="+", choices=STOPPED, default=list(STOPPED), help="the commands")
    parser.add_argument("--cold", type=float, default=0.1, help="share of tries that start a new interpreter")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    killed = [name for name in asked.command if name in WORKS and asked.kills]
    stopped = asked.command if asked.signals else []
    with tempfile.TemporaryDirectory(prefix="dualdiff-faults-") as folder:
        harness = Harness(Path(folder), random.Random(asked.seed), asked.cold)
        harness.prepare()
        parts = {}
        for said, part, names, number in (
            ("SIGKILL", kill, killed, asked.kills),
            ("SIGINT, SIGTERM, SIGHUP", send_signals, stopped, asked.signals),
        ):
            if names:
                parts[said] = part(harness, names, number, time.monotonic() + 60 * asked.minutes)
    totals = {said: dict(sum(counts.values(), Counter())) for said, counts in parts.items()}
    print(json.dumps({said: {"all": totals[said], **counts} for said, counts in parts.items()}, indent=2))
    counts = [count for counts in parts.values() for count in counts.values()]
    return int(any(c["damaged"] or c["outside the contract"] or c["finished"] != c["equal"] for c in counts))


if __name__ == "__main__":
    sys.exit(main())
