"""What can be chosen by name, and where its class is: one line a name, and nothing else to touch.

A registry knows its names without importing a single class, so that ``dualdiff --help`` and a configuration can list
and check them; the module behind a name is imported when the name is looked up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any

from ..errors import InputError, unknown_name
from .formulas import is_formula, read_formula

__all__ = [
    "ALIASES",
    "ASKED_KINDS",
    "COLUMN_KINDS",
    "IDENTIFIER",
    "MODEL_KINDS",
    "PEERS",
    "SAMPLERS",
    "SCHEDULES",
    "Registry",
    "known_name",
]

PACKAGE = __name__.split(".")[0]

ALIASES: Mapping[str, Mapping[str, str]] = {
    "sampler": {
        "ddpm": "ancestral",
        "ode": "adaptive",
        "probability-flow": "adaptive",
        "rk45": "adaptive",
        "dopri5": "adaptive",
        "edm": "heun",
        "edm-stochastic": "heun-stochastic",
        "dpm-solver": "dpm-solver-2",
        "dpm-2": "dpm-solver-2",
        "dpm-solver++": "dpmpp-2m",
        "dpm++-2m": "dpmpp-2m",
        "dpm++-2m-sde": "dpmpp-2m-sde",
        "dpm++-3m": "dpmpp-3m",
        "pc": "predictor-corrector",
        "ald": "annealed-langevin",
        "ula": "langevin",
    },
    "schedule": {
        "linear": "linear-beta",
        "ddpm": "linear-beta",
        "vp": "linear-beta-continuous",
        "vp-sde": "linear-beta-continuous",
        "improved-ddpm": "cosine",
        "ve": "variance-exploding",
        "ve-sde": "variance-exploding",
        "edm": "variance-exploding",
        "flow-matching": "straight-line",
        "rectified-flow": "straight-line",
        "vdm": "learned",
    },
    "model": {
        "dualdiff": "dual-expert",
        "dual": "dual-expert",
        "kde": "kernel-density",
        "gmm": "mixture",
        "gaussian-mixture": "mixture",
        "nsf": "spline-flow",
        "neural-spline-flow": "spline-flow",
        "vine": "vine-copula",
        "forest-diffusion": "forest",
        "forest-flow": "forest",
        "adversarial-random-forest": "arf",
        "tab-ddpm": "tabddpm",
    },
}
"""Other names that the field uses, for each kind of name; a configuration keeps the name on the right."""


def known_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Give the name of the project for what a user has written: case, ``_`` and blanks do not matter, aliases count.

    Args:
        kind: what the name is of, such as "sampler"; aliases are looked up in `ALIASES` by this word.
        name: what the user has written.
        known: the names of the project.

    Raises:
        InputError: there is no such name; the message lists those that there are.

    """
    known = list(known)
    written = _as_written(name)
    found = name if name in known else ALIASES.get(kind, {}).get(written, written)
    if found not in known:
        raise unknown_name(kind, name, known)
    return found


def _as_written(name: str) -> str:
    """Give a name in the form that all names of the project have: lower case, and hyphens for blanks and ``_``."""
    return "-".join(name.lower().replace("_", " ").split())


class Registry(Mapping[str, Any]):
    """Names and the classes behind them.

    Args:
        kind: what the names are of, for messages: "sampler".
        places: for each name "module:Class", with the module's path below this package.

    """

    def __init__(self, kind: str, places: Mapping[str, str]) -> None:
        self.kind = kind
        self._places = dict(places)

    def __getitem__(self, name: str) -> Any:
        module, _, attribute = self._places[name].partition(":")
        return getattr(import_module(f"{PACKAGE}.{module}"), attribute)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places  # Mapping's own would import the class

    def check(self, name: str) -> str:
        """Give the name under which a class is registered for what a user has written; see `known_name`.

        Raises:
            InputError: there is no such name; the message lists those that there are.

        """
        return known_name(self.kind, name, self._places)


SAMPLERS = Registry(
    "sampler",
    {
        "ancestral": "diffusion.samplers.ancestral:Ancestral",
        "ddim": "diffusion.samplers.ancestral:DDIM",
        "euler": "diffusion.samplers.flow:Euler",
        "heun": "diffusion.samplers.flow:Heun",
        "heun-stochastic": "diffusion.samplers.flow:StochasticHeun",
        "dpm-solver-2": "diffusion.samplers.flow:DPMSolver2",
        "dpmpp-2m": "diffusion.samplers.multistep:DPMSolverPP2M",
        "dpmpp-2m-sde": "diffusion.samplers.multistep:DPMSolverPP2MSDE",
        "dpmpp-3m": "diffusion.samplers.multistep:DPMSolverPP3M",
        "predictor-corrector": "diffusion.samplers.ancestral:PredictorCorrector",
        "annealed-langevin": "diffusion.samplers.langevin:AnnealedLangevin",
        "langevin": "diffusion.samplers.langevin:Langevin",
        "adaptive": "diffusion.samplers.flow:AdaptiveFlow",
    },
)
"""Subclasses of ``diffusion.samplers.base.Sampler``."""

SCHEDULES = Registry(
    "schedule",
    {
        "linear-beta": "diffusion.schedules.tables:LinearBeta",
        "linear-beta-continuous": "diffusion.schedules.continuous:ContinuousLinearBeta",
        "cosine": "diffusion.schedules.tables:Cosine",
        "variance-exploding": "diffusion.schedules.continuous:VarianceExploding",
        "straight-line": "diffusion.schedules.continuous:StraightLine",
        "log-snr-uniform": "diffusion.schedules.continuous:LogSNRUniform",
        "learned": "diffusion.schedules.learned:LearnedSchedule",
    },
)
"""Subclasses of ``diffusion.schedules.base.Schedule``."""

MODEL_KINDS = Registry(
    "model",
    {
        "diffusion": "models.diffusion:DiffusionModel",
        "kernel-density": "models.kernel_density:KernelDensity",
        "mixture": "models.mixture:Mixture",
        "spline-flow": "models.spline_flow:SplineFlow",
        "tabddpm": "models.tabddpm:TabDDPM",
    },
)
"""Subclasses of ``models.trainable.TrainableModel``; an exported file is a model that cannot be trained."""

PEERS = Registry(
    "peer",
    {
        "vine-copula": "models.peers:VineCopula",
        "forest": "models.peers:Forest",
        "arf": "models.peers:AdversarialForest",
    },
)
"""Subclasses of ``models.peers.Peer``: other people's models, which `compare` fits and samples, and nobody saves."""

COLUMN_KINDS = Registry(
    "kind of column",
    {
        "constant": "data.encoding.constant:ConstantColumn",
        "missing": "data.encoding.missing:MissingColumn",
        "category": "data.encoding.category:CategoryColumn",
        "date": "data.encoding.date:DateColumn",
        "angle": "data.encoding.angle:AngleColumn",
        "masses": "data.encoding.masses:MassesColumn",
        "rounded": "data.encoding.rounded:RoundedColumn",
        "integer": "data.encoding.integer:IntegerColumn",
        "decimal": "data.encoding.integer:DecimalColumn",
        "bounded": "data.encoding.bounded:BoundedColumn",
        "skewed": "data.encoding.skewed:SkewedColumn",
        "number": "data.encoding.number:NumberColumn",
        "derived": "data.encoding.derived:DerivedColumn",
    },
)
"""Subclasses of ``data.encoding.base.ColumnEncoding``; the first whose ``suits`` says yes encodes a column.

An encoding may hold another one of a later kind: the values of a column with gaps, or the continuous part beside point
masses."""

IDENTIFIER = "identifier"
"""The kind of a column that is left out, because it only tells the rows apart; it has no encoding."""

UNASKED_KINDS = ("constant", "missing")
"""The kinds that a schema may have because `columns` writes them, and that no user asks for: the data have them."""
COMPUTED = "derived"
"""The kind of a column that a formula computes, which is asked for by the formula."""
ASKED_KINDS = (*(kind for kind in COLUMN_KINDS if kind not in (*UNASKED_KINDS, COMPUTED)), IDENTIFIER)
"""The kinds that a user can ask for by name."""


def check_column_kind(name: str) -> str:
    """Give the name of the kind that a user has asked for, or the formula; see `known_name` and `config.formulas`.

    Raises:
        InputError: there is no such kind, and the message lists those that there are; or the formula cannot be read.

    """
    if is_formula(name):
        return str(read_formula(name))
    written = _as_written(name)
    if written == COMPUTED:
        raise InputError(
            f"The kind {name!r} does not say what a column is computed from.",
            'Give the formula in place of the kind, such as total = "= minutes + 60*hours".',
        )
    return written if written in UNASKED_KINDS else known_name(COLUMN_KINDS.kind, name, ASKED_KINDS)
