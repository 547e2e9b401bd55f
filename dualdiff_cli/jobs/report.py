"""Write the report of a run or of a comparison: one HTML file that needs nothing else."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..checked import LARGEST_TEXT, check_schema, parse_json, read_bytes, refusing
from ..compute.device import choose_device
from ..data import Data
from ..errors import InputError
from ..metrics import Verdict
from ..models import AS_DRAWN, Model, load_model
from ..present.report.comparison import comparison_page
from ..present.report.run import RunContents, run_page
from ..present.tables import number
from ..store.atomic import require_writable, write_text
from ..store.run import Run
from .columns import kind_in_words
from .comparison_file import ComparisonFile
from .evaluate import GENERATED, evaluate
from .inputs import data_of_run
from .plot import PICTURED, picture_of_experts, picture_of_losses, pictured_rows
from .truth import Announce

__all__ = ["report"]


def report(
    source: Run | str | Path,
    *,
    output: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    announce: Announce = lambda what: None,
) -> dict[str, Any]:
    """Write the report.

    Args:
        source: a finished run or its directory, or a JSON file that `dualdiff compare --json` wrote. A run whose model
            has not been scored yet is scored first.
        output: the HTML file; None writes ``report.html`` in the run, or beside the JSON file a page of its name.
        seed: of the generated rows.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:i``, where a run's model is loaded.
        announce: told what is being done.

    Returns:
        The record of the ``report`` command: "run" (None for a comparison), "comparison" (None for a run), "output",
        "bytes", "verdict" ("good", "not yet", "bad" or "unknown"), "sentence" (why), and "scored_now" (whether the
        run was scored for the report).

    Raises:
        InputError: there is no run, the run is not finished, its data file has changed, or the JSON file is no record
            of a comparison, or the output names no HTML file or cannot be written.
        DeviceError: the device is not there.

    """
    if output is not None and Path(output).suffix.lower() not in (".html", ".htm"):  # before minutes of scoring
        raise InputError(f"'{output}' does not name an HTML file.", "Give a name that ends in .html with -o.")
    choose_device(device)
    path = None if isinstance(source, Run) else Path(source)
    if path is not None and path.is_file():
        page, judged = comparison_page(_comparison(path))
        return _write(page, judged, Path(output or path.with_suffix(".html")), comparison=str(path))
    run = Run.open(source)
    target = Path(output) if output is not None else run.path / "report.html"
    require_writable(target)  # before minutes of scoring
    scores = run.load_evaluation() if run.is_trained else None
    scored_now = scores is None
    if scores is None:
        scores = evaluate(run, seed=seed, device=device, announce=announce)
    announce("figures")
    page, judged = run_page(_contents(run, scores, scored_now=scored_now, seed=seed, device=device))
    return _write(page, judged, target, run=str(run), scored_now=scored_now)


def _comparison(path: Path) -> dict[str, Any]:
    """Read the record of a comparison.

    Raises:
        InputError: the file holds something else.

    """
    with refusing(
        f"{path} is not the record of a comparison.",
        "Name a run's directory, or a file that `dualdiff compare --json > FILE` wrote.",
    ):
        record: dict[str, Any] = parse_json(read_bytes(path, limit=LARGEST_TEXT))
        check_schema(record, ComparisonFile)
    return record


def _write(page: str, judged: Verdict, target: Path, **labels: Any) -> dict[str, Any]:
    write_text(target, page)
    return {
        "run": None,
        "comparison": None,
        "scored_now": False,
        **labels,
        "output": str(target),
        "bytes": target.stat().st_size,
        "verdict": judged.level,
        "sentence": judged.sentence,
    }


def _contents(run: Run, scores: Mapping[str, Any], *, scored_now: bool, seed: int, device: str) -> RunContents:
    model, data = load_model(run, device=choose_device(device)), data_of_run(run)
    generated = model.sample(PICTURED, seed=seed, options=AS_DRAWN)
    config = model.config
    return RunContents(
        title=f"{Path(config.dataset).name} · {config.model.name}",
        facts=_facts(run, model, data, scores),
        scores=scores["metrics"],
        n_real=scores["n_real"],
        n_generated=scores["n_generated"],
        scored_now=scored_now,
        real=pictured_rows(data, generated, seed=seed),
        generated=generated,
        losses=picture_of_losses(run, title=""),
        experts=picture_of_experts(model, data, title="", seed=seed),
        kinds={column.name: kind_in_words(column) for column in model.encoding.columns},
        commands=_commands(run, scores, seed=seed),
        config=config.to_toml(),
    )


def _commands(run: Run, scores: Mapping[str, Any], *, seed: int) -> list[str]:
    """Give the commands that make the run again, its scores and the page, with the options that are not the default."""
    place = shlex.quote(str(run))
    asked = f" -n {scores['n_generated']}" if scores["n_generated"] != GENERATED else ""
    asked += " --exact" if "nll_held_out" in scores["metrics"] else ""
    asked += " --diagnose" if "diagnosis" in scores else ""
    again = shlex.quote(f"{run}-again")
    return [
        f"dualdiff train --config {shlex.quote(str(run.config_path))} --run-dir {again}  # the same training",
        f"dualdiff evaluate {place}{asked}{_seeded(scores.get('seed'))}",
        f"dualdiff report {place}{_seeded(seed)}",
    ]


def _seeded(seed: int | None) -> str:
    return f" --seed {seed}" if seed else ""


def _facts(run: Run, model: Model, data: Data, scores: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Say in groups of names and values what was learnt, how, and on what; what is not known is left out."""
    config, training, machine = model.config, run.load_training() or {}, run.load_environment() or {}
    versions, gpus = machine.get("versions", {}), machine.get("gpus", [])
    groups: dict[str, dict[str, Any]] = {
        "Data": {
            "source": data.name if data.density is None else f"{data.name}: {data.density.description}",
            "rows": f"{data.train.height:,} learnt, {data.held_out.height:,} held out",
            "dropped rows": data.provenance.get("dropped_rows") or None,
            "columns": _counted_kinds(model),
        },
        "Model": {
            "model": config.model.name,
            "recipe": config.recipe,
            "parameters": training.get("parameters"),
            "steps": training.get("steps"),
            "training": _seconds(training.get("train_seconds")),
            "seed": config.seed,
            "sampler": " in ".join(map(str, filter(None, [scores.get("sampler"), _steps(scores)]))) or None,
        },
        "Machine": {
            "device": training.get("device") or machine.get("device"),
            "processor": machine.get("processor"),
            "cores": machine.get("cores"),
            "GPU": ", ".join(str(gpu.get("name", gpu)) if isinstance(gpu, dict) else str(gpu) for gpu in gpus) or None,
            "precision": machine.get("execution", {}).get("precision"),
            "versions": ", ".join(f"{name} {versions[name]}" for name in ("dualdiff-cli", "torch") if name in versions),
        },
    }
    return {
        head: [
            (name, value if isinstance(value, str) else number(value))
            for name, value in facts.items()
            if value not in (None, "")
        ]
        for head, facts in groups.items()
    }


def _steps(scores: Mapping[str, Any]) -> str | None:
    return f"{scores['sample_steps']} steps" if scores.get("sample_steps") else None


def _seconds(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return f"{seconds:.1f} seconds" if seconds < 120 else f"{seconds / 60:.1f} minutes"


def _counted_kinds(model: Model) -> str:
    kinds = [kind_in_words(column) for column in model.encoding.columns]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
