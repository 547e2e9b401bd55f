"""Kill and interrupt the real program at random moments, let its disk be full, and see that nothing is lost.

    python benchmarks/faults.py --kills 100 --signals 100 --disks 100 --minutes 30 --seed 1
    python benchmarks/faults.py --kills 100 --command export impute

Each command is killed with SIGKILL at a random moment and started again, with the words that a user would use, until
it finishes: at the latest after ten kills. Its results must then equal those of the same command that nobody killed:
weights, logs, rows and exported files byte for byte, and the scores of `reproduce` and `compare`. After each kill every
file under its own name must be whole. Of a command with several processes, one or all of them are killed.

A second part sends SIGINT, SIGTERM or SIGHUP, one to three of them, at random moments of many commands: the exit code
must be 130, or 0 where the command was already done, standard error must hold no traceback, and no file may be
half-written.

A third part lets no file of a command grow beyond a random size, which is what a full disk looks like. The exit code
must be 0 or 2, standard error must hold no traceback, and no file may be half-written. The same command must then
finish without the limit, with the results of a command that had none.

A try is the real program in a process of its own. Most of these processes are forks of one that has loaded the
libraries, so that the moments fall into the work; the share `--cold` of them starts a new interpreter. The commands of
a part take turns so that each gets the same time. The figures are printed at the end; the exit code is 1 if anything
was lost.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

from fault_commands import STOPPED, WORKS
from fault_harness import LONGEST, Harness, listens

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MOST_KILLS = 10
"""A command is killed so many times at most before it may finish."""
SMALLEST_DISK = 2_000
"""The least limit on the size of files, in bytes, which leaves room for the sentences of an error."""

Counts = dict[str, Counter[str]]
"""What happened to each command."""


def turns(names: list[str], done: Counter[str], most: int, until: float) -> Iterator[str]:
    """Give the names in turn, until so many faults are done or the time is up, each name for the same time."""
    spent = dict.fromkeys(names, 0.0)
    while done.total() < most and time.monotonic() < until:
        name = min(names, key=spent.__getitem__)
        started = time.monotonic()
        yield name
        spent[name] += time.monotonic() - started


def kill(harness: Harness, names: list[str], kills: int, until: float) -> Counts:
    """Kill the commands in turn, each until it finishes."""
    counts = {name: Counter[str]() for name in names}
    done: Counter[str] = Counter()
    for name in turns(names, done, kills, until):
        work, count = WORKS[name], counts[name]
        harness.learn(name)
        out, mine = harness.clean(work), 0
        while True:
            started = time.monotonic()
            program = harness.start(work, out)
            if mine < MOST_KILLS:
                program.join(harness.draws.uniform(0, 1.1 * harness.seconds[name]))
                strike(program, everything=harness.draws.random() < 0.5)
            program.join()
            if program.exitcode != -signal.SIGKILL:
                harness.note_time(name, time.monotonic() - started)
                break
            mine += 1
            count["kills"] += 1
            if problem := harness.damage(name, out):
                count["damaged"] += 1
                print(f"{name}: {problem}", flush=True)
            harness.clean_if_not_begun(work, out)
        done[name] += mine
        compare(harness, name, count, program.exitcode, out, after=f"{mine} kills")
        print(name, json.dumps(count), flush=True)
    return counts


def strike(program: BaseProcess, *, everything: bool) -> None:
    """Kill a program, with or without the processes that it has started."""
    pid = program.pid or 0
    if everything and program.is_alive() and os.getpgid(pid) == pid:  # otherwise it has not made a group yet
        os.killpg(pid, signal.SIGKILL)
    program.kill()


def send_signals(harness: Harness, names: list[str], tries: int, until: float) -> Counts:
    """Send one to three signals at random moments of the commands in turn; count what the commands answered."""
    counts = {name: Counter[str]() for name in names}
    done: Counter[str] = Counter()
    for name in turns(names, done, tries, until):
        work, count = STOPPED[name], counts[name]
        harness.learn(name)
        out = harness.clean(work)
        started = time.monotonic()
        program = harness.start(work, out)
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
        code, problem = program.exitcode, harness.damage(name, out)
        if code == 0:
            harness.note_time(name, time.monotonic() - started)
        if code and work.makes_file and out.exists():
            problem = f"{out.name} is there"
        judge(harness, name, count, code, problem, {0: "already done", 130: "exit code 130"})
        done[name] += 1
        print(name, json.dumps(count), flush=True)
    return counts


def fill_disks(harness: Harness, names: list[str], tries: int, until: float) -> Counts:
    """Let no file of the commands in turn grow beyond a random size, and then let each command finish."""
    counts = {name: Counter[str]() for name in names}
    done: Counter[str] = Counter()
    for name in turns(names, done, tries, until):
        work, count = WORKS[name], counts[name]
        harness.learn(name)
        out = harness.clean(work)
        bounds = (math.log(SMALLEST_DISK), math.log(1.1 * max(harness.largest[name], SMALLEST_DISK)))
        program = harness.start(work, out, largest=int(math.exp(harness.draws.uniform(*bounds))))
        program.join(LONGEST)
        program.kill()
        program.join()
        code, problem = program.exitcode, harness.damage(name, out)
        judge(harness, name, count, code, problem, {0: "had room", 2: "exit code 2"})
        harness.clean_if_not_begun(work, out)
        program = harness.start(work, out)
        program.join()
        compare(harness, name, count, program.exitcode, out, after="a full disk")
        done[name] += 1
        print(name, json.dumps(count), flush=True)
    return counts


def compare(harness: Harness, name: str, count: Counter[str], code: int | None, out: Path, *, after: str) -> None:
    """Count a command that was left to finish, and whether its results are those of one without a fault."""
    count["finished"] += 1
    equal = code == 0 and harness.is_equal(name, out)
    count["equal"] += equal
    if not equal:
        print(f"{name} ended in {code} after {after}: {harness.said()}", flush=True)


def judge(
    harness: Harness, name: str, count: Counter[str], code: int | None, problem: str | None, allowed: dict[int, str]
) -> None:
    """Count what a command answered, and show what was outside the contract."""
    said = harness.said()
    if "Traceback" in said:
        problem = "a traceback"
    count["tries"] += 1
    if code not in allowed or problem:
        count["outside the contract"] += 1
        print(f"{name} ended in {code}; {problem}: {said}", flush=True)
    else:
        count[allowed[code]] += 1


Part = Callable[[Harness, list[str], int, float], Counts]


def main() -> int:
    """Read the options, and do the three parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=0, help="number of SIGKILLs")
    parser.add_argument("--signals", type=int, default=0, help="number of commands that are asked to stop")
    parser.add_argument("--disks", type=int, default=0, help="number of commands whose disk is full")
    parser.add_argument("--minutes", type=float, default=60.0, help="time after which no further fault is made, a part")
    parser.add_argument("--command", nargs="+", choices=STOPPED, default=list(STOPPED), help="the commands")
    parser.add_argument("--cold", type=float, default=0.1, help="share of tries that start a new interpreter")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    asked = parser.parse_args()
    if not asked.kills + asked.signals + asked.disks:
        asked.kills = asked.signals = asked.disks = 20
    os.environ["OMP_NUM_THREADS"] = "1"
    works = [name for name in asked.command if name in WORKS]
    parts: dict[str, tuple[Part, list[str], int]] = {
        "SIGKILL": (kill, works, asked.kills),
        "SIGINT, SIGTERM, SIGHUP": (send_signals, asked.command, asked.signals),
        "full disk": (fill_disks, works, asked.disks),
    }
    found: dict[str, Counts] = {}
    with tempfile.TemporaryDirectory(prefix="dualdiff-faults-") as folder:
        harness = Harness(Path(folder), random.Random(asked.seed), asked.cold)
        harness.prepare()
        for what, (part, names, number) in parts.items():
            if names and number:
                found[what] = part(harness, names, number, time.monotonic() + 60 * asked.minutes)
    totals = {what: dict(sum(counts.values(), Counter())) for what, counts in found.items()}
    print(json.dumps({what: {"all": totals[what], **counts} for what, counts in found.items()}, indent=2))
    each = [count for counts in found.values() for count in counts.values()]
    return int(any(c["damaged"] or c["outside the contract"] or c["finished"] != c["equal"] for c in each))


if __name__ == "__main__":
    sys.exit(main())
