"""Kill and interrupt the real program at random moments, and see that nothing is lost.

    python benchmarks/faults.py --kills 100 --signals 100 --minutes 30 --seed 1

A tiny training is killed with SIGKILL again and again and resumed each time, until it finishes: its weights must equal
those of the training that nobody killed, byte for byte, and no file may be half-written under its own name. A second
part sends SIGINT, SIGTERM or SIGHUP, one to three of them, at random moments of `train`, `sample`, `evaluate` and
`export`: the exit code must be 130, or 0 where the command was already done, and standard error must hold no traceback.
The figures are printed at the end; the exit code is 1 if anything was lost.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from dualdiff_cli.store.run import Run

SETTINGS = (
    *("model.width=8", "model.blocks=1", "model.gate_hidden=[8]", "schedule.length=8", "schedule.beta_max=0.9"),
    *("objective.references=0", "sampling.steps=8", "data.points=400", "data.held_out_points=400", "training.batch=16"),
    *("training.log_every=20", "training.checkpoint_every=40"),
)
STEPS = 1_500
WORDS = ["train", "moons", "--recipe", "paper", "--device", "cpu", "--steps", str(STEPS)]
WORDS += [word for setting in SETTINGS for word in ("--set", setting)]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def start(words: Sequence[str], folder: Path) -> subprocess.Popen[str]:
    """Start the program as a user does, with one thread."""
    command = [sys.executable, "-m", "dualdiff_cli", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=folder, env=environment, encoding="utf-8", **pipes)  # type: ignore[call-overload,no-any-return]


def finish(words: Sequence[str], folder: Path) -> None:
    """Run a command that has to succeed."""
    program = start(words, folder)
    _, said = program.communicate()
    if program.returncode:
        raise SystemExit(f"{' '.join(words)} ended in {program.returncode}: {said}")


def wait_a_moment(program: subprocess.Popen[str], seconds: float, run: Path | None, draws: random.Random) -> None:
    """Wait for a random moment: of the time that the command takes, or, of a training, after its first step."""
    deadline = time.monotonic() + draws.uniform(0, seconds)
    if run is not None and draws.random() < 0.8:
        log = run / "metrics.jsonl"
        size = log.stat().st_size if log.exists() else 0
        while program.poll() is None and not (log.exists() and log.stat().st_size > size):
            time.sleep(0.001)
        deadline = time.monotonic() + draws.uniform(0, 0.5)
    while program.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)


def readable(run: Run) -> str | None:
    """Say which file of a run cannot be read; None where all can."""
    try:
        run.load_state()
        run.load_metrics()
        run.load_data()
        run.load_environment()
        if run.is_trained:
            run.load_model()
        run.config.to_toml()
    except Exception as error:
        return str(error)
    return None


def kill_trainings(
    kills: int, folder: Path, whole: Path, seconds: float, until: float, draws: random.Random
) -> dict[str, int]:
    """Kill trainings and resume them, each until it finishes, until there have been so many kills or the time is up."""
    done = {"kills": 0, "trainings": 0, "equal weights": 0, "unreadable files": 0}
    while done["kills"] < kills and time.monotonic() < until:
        run = folder / "run"
        shutil.rmtree(run, ignore_errors=True)
        while not (run / "training.json").exists():
            begun = (run / "config.toml").exists()
            if not begun:
                shutil.rmtree(run, ignore_errors=True)
            program = start(["train", "--resume", "run"] if begun else [*WORDS, "--run-dir", "run"], folder)
            if done["kills"] < kills and time.monotonic() < until:
                wait_a_moment(program, seconds, run, draws)
            else:
                program.wait()
            if program.poll() is None:
                program.send_signal(signal.SIGKILL)
            _, said = program.communicate()
            if program.returncode == -signal.SIGKILL:
                done["kills"] += 1
                if (run / "config.toml").exists() and (problem := readable(Run(run))):
                    done["unreadable files"] += 1
                    print(problem)
            elif program.returncode:
                raise SystemExit(f"The training ended in {program.returncode}: {said}")
        done["trainings"] += 1
        names = ("model.safetensors", "metrics.jsonl", "config.toml")
        done["equal weights"] += all((run / name).read_bytes() == (whole / name).read_bytes() for name in names)
        print(json.dumps(done), flush=True)
    return done


def send_signals(
    tries: int, folder: Path, whole: Path, seconds: float, until: float, draws: random.Random
) -> dict[str, int]:
    """Send one to three signals at random moments of commands; count what the commands answered."""
    done = {"tries": 0, "exit code 130": 0, "already done": 0, "outside the contract": 0}
    commands = {
        "train": [*WORDS, "--run-dir", "interrupted"],
        "sample": ["sample", str(whole), "-n", "200k", "-o", "rows.csv"],
        "evaluate": ["evaluate", str(whole)],
        "export": ["export", str(whole), "-o", "sampler.onnx"],
    }
    for number in range(tries):
        if time.monotonic() > until:
            break
        for name in ("interrupted", "rows.csv", "sampler.onnx"):
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / name).unlink(missing_ok=True)
        command = list(commands)[number % len(commands)]
        program = start(commands[command], folder)
        while program.poll() is None and not listens(program.pid):
            time.sleep(0.001)
        wait_a_moment(program, seconds, folder / "interrupted" if command == "train" else None, draws)
        for _ in range(draws.choice((1, 1, 2, 3))):
            if program.poll() is None:
                program.send_signal(draws.choice(SIGNALS))
            time.sleep(draws.choice((0, 0, 0.01, 0.1)))
        try:
            _, said = program.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            program.kill()
            _, said = program.communicate()
            said += "\nThe signal went unheard."
        done["tries"] += 1
        left = [path.name for path in folder.glob("rows.csv")] + [path.name for path in folder.glob("sampler.onnx")]
        good = program.returncode in (0, 130) and "Traceback" not in said and not (program.returncode and left)
        done["exit code 130"] += good and program.returncode == 130
        done["already done"] += good and program.returncode == 0
        if not good:
            done["outside the contract"] += 1
            print(f"{command} ended in {program.returncode} and left {left}: {said}", flush=True)
    print(json.dumps(done), flush=True)
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
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    asked = parser.parse_args()
    draws = random.Random(asked.seed)
    with tempfile.TemporaryDirectory(prefix="dualdiff-faults-") as name:
        folder, started = Path(name), time.monotonic()
        finish([*WORDS, "--run-dir", "whole"], folder)
        seconds = time.monotonic() - started
        parts = []
        for part, number in ((kill_trainings, asked.kills), (send_signals, asked.signals)):
            until = time.monotonic() + 60 * asked.minutes
            parts.append(part(number, folder, folder / "whole", seconds, until, draws) if number else {})
        killed, stopped = parts
    print(json.dumps({"SIGKILL": killed, "SIGINT, SIGTERM, SIGHUP": stopped}, indent=2))
    lost = killed.get("trainings", 0) != killed.get("equal weights", 0) or killed.get("unreadable files", 0)
    return int(bool(lost or stopped.get("outside the contract", 0)))


if __name__ == "__main__":
    sys.exit(main())
