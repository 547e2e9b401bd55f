"""What `dualdiff export` shows: the facts of the file and of its comparison with the run, and how the file is used."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .tables import Table, facts_table

__all__ = ["export_table", "usage_of_onnx"]


def export_table(record: Mapping[str, Any]) -> Table:
    """Lay out the record of an export, with each divergence and its floor in one line, and an example of use below.

    Args:
        record: what the job ``export`` returns.

    """
    facts = dict(record)
    for name, value in record.items():
        if isinstance(value, dict):
            facts[name] = f"{value['value']:.3g} {value['unit']} (floor, from the run's own rows: {value['floor']:.3g})"
    if record["what"] != "sampler":
        return facts_table(facts)
    facts["next"] = f"dualdiff sample --from {shlex.quote(record['output'])} -n 1000 -o rows.csv"
    notes = []
    if record["format"] == "onnx":
        notes += ["Without dualdiff, in Python:", "", usage_of_onnx(record), ""]
    if record["step_draws"]:
        notes.append(
            f"The sampler {record['sampler']} draws fresh noise, so that the file needs the input step_noise. A "
            "deterministic sampler, such as --sampler dpmpp-2m, needs noise alone."
        )
    return replace(facts_table(facts), notes=tuple(notes))


def usage_of_onnx(record: Mapping[str, Any]) -> str:
    """Give lines of Python that draw 1,000 rows from an exported sampler."""
    width, draws, takes_given = record["features"], record["step_draws"], "given" in record["inputs"]
    lines = [
        "import numpy as np, onnxruntime",
        f"session = onnxruntime.InferenceSession({record['output']!r})",
        'normal = lambda *shape: np.random.default_rng().standard_normal(shape, "float32")',
        f'inputs = {{"noise": normal(1000, {width})}}',
        *([f'inputs["step_noise"] = normal({draws}, 1000, {width})'] if draws else []),
        *(
            [f'inputs |= {{"values": np.zeros((1000, {width})), "given": np.zeros({width}, bool)}}']
            if takes_given
            else []
        ),
        'rows = session.run(["samples"], inputs)[0]',
    ]
    return "\n".join(f"    {line}" for line in lines)
