"""The model for Python: an estimator in the manner of scikit-learn, whose run is a directory as everywhere else."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Self

import numpy as np
import polars as pl
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_html_repr

from .compute.device import choose_device
from .config.nesting import difference, nested
from .config.recipes import Request, resolve
from .config.schema import DiffusionConfig
from .config.settle import unsettled
from .data import Data, FloatArray, check_table
from .data.containers import CONTAINERS, container_of
from .errors import InputError
from .jobs.evaluate import GENERATED, evaluate
from .jobs.export import export
from .jobs.impute import impute
from .jobs.inputs import IN_MEMORY, ROWS_IN_MEMORY, data_of_run, halves, load_run_data, rows_in_memory
from .jobs.score import log_densities
from .jobs.train import Callbacks, train
from .metrics import METRICS
from .models import DrawingOptions, TrainableModel, load_model
from .present.notebook import facts_and_picture
from .present.terminal import Console
from .present.training import report_progress
from .store.run import Run

__all__ = ["DualDiff", "UnfittedError"]


class UnfittedError(InputError, NotFittedError):  # type: ignore[misc]  # scikit-learn has no types
    """The estimator has no model yet."""


class DualDiff(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A generative model of a table, which is trained, sampled, scored and exported from Python.

    It follows the conventions of scikit-learn: the constructor stores its arguments and does nothing else, ``fit``
    gives the estimator back, what ``fit`` finds out has a name that ends in ``_``, and ``clone``, ``get_params`` and
    ``set_params`` work. Rows come back in the type in which they were given: a NumPy array, or a data frame of polars
    or pandas, or an Arrow table.

    Args:
        model: a name such as ``dual-expert``, ``mixture`` or ``spline-flow``; see ``dualdiff train --help``.
        recipe: a name such as ``precise``; None lets the number of rows decide.
        steps: the number of optimiser steps; None takes the recipe's. Only for diffusion models.
        seed: of the held-out split, the initial weights and the training; None is 0.
        random_state: scikit-learn's name for ``seed``: an integer, or a NumPy generator that a seed is drawn from.
        settings: further values of the configuration by their dotted names, such as ``{"training.batch": 512}``.
        run_dir: the directory of the run, which stays, and which has to be new or empty: it serves one ``fit``, and no
            cross-validation, which fits several clones. None takes a temporary directory for each ``fit``, which
            vanishes with the estimator; `save` keeps a copy.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.
        verbose: whether ``fit`` shows its progress, as a bar in a terminal or in a notebook.

    Attributes:
        run_: the directory of the run, with pictures in ``figures/``.
        record_: what the ``train`` command prints as JSON: seconds, parameters, held-out loss and more.
        n_features_in_: the number of columns.
        feature_names_in_: the names of the columns, (n_features_in_,).

    Examples:
        >>> import numpy as np
        >>> import dualdiff_cli as dualdiff
        >>> rows = np.random.default_rng(0).normal(size=(500, 2))
        >>> estimator = dualdiff.DualDiff(model="mixture", settings={"model.components": 1}).fit(rows)
        >>> estimator.sample(3).shape
        (3, 2)
        >>> estimator.score_samples(rows[:4]).shape
        (4,)

    """

    def __init__(
        self,
        model: str = "dual-expert",
        recipe: str | None = None,
        steps: int | None = None,
        *,
        seed: int | None = None,
        random_state: Any = None,
        settings: Mapping[str, Any] | None = None,
        run_dir: str | Path | None = None,
        device: str = "auto",
        verbose: bool = False,
    ) -> None:
        self.model = model
        self.recipe = recipe
        self.steps = steps
        self.seed = seed
        self.random_state = random_state
        self.settings = settings
        self.run_dir = run_dir
        self.device = device
        self.verbose = verbose

    # Training

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train the model on rows, a tenth of which is held out for the scores of `evaluate`.

        Args:
            X: n rows: an array (n, columns), a data frame of polars, pandas or any library with the Arrow interface; or
                the name of a density or the path of a data file, as for ``dualdiff train``.
            y: ignored; scikit-learn's pipelines pass it.

        Raises:
            InputError: the rows or a parameter are refused.
            DeviceError: the device is not there.

        Examples:
            >>> import dualdiff_cli as dualdiff
            >>> small = {"data.points": 500, "data.held_out_points": 500, "model.components": 4}
            >>> estimator = dualdiff.DualDiff(model="mixture", settings=small).fit("moons")
            >>> estimator.sample(2).columns
            ['x', 'y']

        """
        del y
        source = str(X) if isinstance(X, str | Path) else ROWS_IN_MEMORY
        options = self._options()
        request = Request(dataset=source, model=self.model, recipe=self.recipe, options=options)
        if source == ROWS_IN_MEMORY:
            container = container_of(X)
            data = rows_in_memory(CONTAINERS[container].take(X, None), request.config(), container=container)
        else:
            container, data = "polars", load_run_data(request.config())
        directory = Path(mkdtemp(prefix="dualdiff-") if self.run_dir is None else self.run_dir)
        if self.run_dir is None:  # a temporary directory goes with the estimator, and at the latest with the process
            weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        with Console(quiet=not self.verbose).progress("training", unit="steps") as bar:

            def on_start(run: Run, steps: int, how: str) -> None:
                if steps:
                    bar.start(steps)

            callbacks = Callbacks(on_start=on_start, on_progress=partial(report_progress, bar))
            record = train(request, path=directory, device=self.device, callbacks=callbacks, data=data)
        self.record_: dict[str, Any] = record
        self._open(Run.open(record["run"]), data, container)
        return self

    def _options(self) -> dict[str, Any]:
        """Give the parameters as the configuration is nested."""
        steps = {} if self.steps is None else {"training.steps": self.steps}
        return nested({"seed": self._seed(), **steps, **(self.settings or {})})

    def _seed(self) -> int:
        drawn = getattr(self.random_state, "integers", None) or getattr(self.random_state, "randint", None)
        if self.seed is not None and self.random_state is not None:
            raise InputError("The parameters seed and random_state are both given.", "Leave one of them out.")
        if drawn is not None:
            return int(drawn(2**31 - 1))
        return int(next((given for given in (self.seed, self.random_state) if given is not None), 0))

    def _open(self, run: Run, data: Data | None, container: str) -> None:
        """Take the model of a finished run, the rows that it was trained on, and the type of these rows."""
        self._data, self._container = data, container
        self._model = load_model(run, device=choose_device(self.device))
        self.run_ = run.path
        self.feature_names_in_ = np.array(self._model.encoding.names, dtype=object)
        self.n_features_in_ = len(self.feature_names_in_)

    def _fitted(self) -> TrainableModel[Any]:
        if not hasattr(self, "run_"):
            raise UnfittedError("This DualDiff has no model yet.", "Call fit first, or use DualDiff.load.")
        return self._model

    # Rows and densities

    def sample(
        self,
        n: int = 1,
        *,
        seed: int = 0,
        given: Mapping[str, Any] | None = None,
        guidance: float = 1.0,
        sampler: str | None = None,
        steps: int | None = None,
    ) -> Any:
        """Draw rows, in the type in which the training rows were given.

        Args:
            n: the number of rows.
            seed: a row depends on the seed and on the row's number alone: ten rows begin with the rows that five give.
            given: cells that every row is to have, by the name of the column; the other cells follow their distribution
                given these.
            guidance: how strongly the rows follow the given cells; 1 draws from the conditional distribution.
            sampler, steps: another sampler than the recipe's, and its number of steps; only for diffusion models.

        Raises:
            InputError: the model is not fitted, or an option does not apply to the model.

        Examples:
            >>> import dualdiff_cli as dualdiff
            >>> import polars as pl
            >>> ages = pl.DataFrame({"age": [20 + i % 50 for i in range(300)]})
            >>> estimator = dualdiff.DualDiff(model="kernel-density").fit(ages)
            >>> estimator.sample(4, seed=1).dtypes
            [Int64]

        """
        if n < 1:
            raise InputError(f"{n} rows cannot be drawn.", "Give n a whole number of at least 1.")
        model = self._fitted()
        options = DrawingOptions(sampler, steps, given=given or {}, guidance=guidance)
        rows = model.sample(n, seed=seed, options=options)
        return CONTAINERS[self._container].give(rows)

    def impute(self, X: Any, *, seed: int = 0) -> Any:
        """Draw the missing cells of rows from their distribution given the other cells of the row.

        Args:
            X: n rows with some or all of the columns of the training rows, in any type of rows that `fit` takes. An
                array, which has no names, has all of these columns in their order.
            seed: of the drawn cells.

        Returns:
            The rows with every gap filled, in the type of X and, for pandas, with its index.

        Raises:
            InputError: the rows are refused, the model is not fitted, or it cannot fill gaps; a mixture can, and so can
                a diffusion model that takes given cells.

        Examples:
            >>> import polars as pl
            >>> import dualdiff_cli as dualdiff
            >>> rows = pl.DataFrame({"kind": ["a", "b"] * 50, "size": [1.0 + i % 7 for i in range(100)]})
            >>> estimator = dualdiff.DualDiff(steps=20, settings={"model.width": 8}).fit(rows)
            >>> gaps = pl.DataFrame({"kind": ["a", None], "size": [None, 2.0]})
            >>> estimator.impute(gaps).null_count().row(0)
            (0, 0)

        """
        model, container = self._fitted(), container_of(X)
        frame = CONTAINERS[container].take(X, list(self.feature_names_in_))
        filled = CONTAINERS[container].give(impute(model, frame, seed=seed)["frame"])
        return filled.set_axis(X.index) if container == "pandas" else filled

    def score_samples(self, X: Any, *, seed: int = 0) -> FloatArray:
        """Give the log of the model's density at each row, in nats and in the units of the columns, (n,).

        Args:
            X: n rows with the columns of the training rows.
            seed: of the noise that spreads whole numbers over their unit interval.

        Raises:
            InputError: the model is not fitted, the model or a column has no density, or the rows are refused, for
                example because a cell is missing.

        Examples:
            >>> import numpy as np
            >>> import dualdiff_cli as dualdiff
            >>> rows = np.random.default_rng(0).normal(size=(1000, 1))
            >>> settings = {"model.components": 1, "model.covariance": "full"}
            >>> estimator = dualdiff.DualDiff(model="mixture", settings=settings).fit(rows)
            >>> bool(abs(estimator.score_samples([[0.0]])[0] + 0.919) < 0.1)  # log of 1/sqrt(2 pi)
            True

        """
        return log_densities(self._fitted(), self._rows(X, whole=True), seed=seed)

    def score(self, X: Any, y: Any = None) -> float:
        """Give the mean of `score_samples`, which scikit-learn's model selection maximises.

        Examples:
            >>> import numpy as np
            >>> import dualdiff_cli as dualdiff
            >>> rows = np.random.default_rng(0).normal(size=(200, 1))
            >>> estimator = dualdiff.DualDiff(model="kernel-density").fit(rows)
            >>> estimator.score(rows) > estimator.score(rows + 10)
            True

        """
        del y
        return float(self.score_samples(X).mean())

    def evaluate(
        self,
        X: Any = None,
        *,
        n: int = GENERATED,
        metrics: Collection[str] | None = None,
        exact: bool = False,
        seed: int = 0,
    ) -> dict[str, Any]:
        """Score fresh samples against rows that the model has not learnt; every score stands beside its floor.

        Args:
            X: true rows to score against; None takes the held-out rows. An estimator that was loaded, and whose
                training rows were given from Python, has no held-out rows and needs X.
            n: the number of samples.
            metrics: the names of the wanted scores; None takes all of them.
            exact: whether the log-density of held-out rows is scored, too.
            seed: of the samples and of the scores.

        Returns:
            The record that ``dualdiff evaluate --json`` prints: ``metrics`` holds for each score its ``value``,
            ``unit``, ``ci95`` and ``floor``.

        Raises:
            InputError: the model is not fitted, there are no held-out rows, the rows are refused, or a metric is
                unknown or needs training rows that are gone.

        Examples:
            >>> import dualdiff_cli as dualdiff
            >>> small = {"data.points": 500, "data.held_out_points": 500, "model.components": 4}
            >>> estimator = dualdiff.DualDiff(model="mixture", settings=small).fit("moons")
            >>> scores = estimator.evaluate(n=500, metrics=["sliced_wasserstein"])["metrics"]
            >>> scores["sliced_wasserstein"]["value"] > scores["sliced_wasserstein"]["floor"]
            True

        """
        self._fitted()
        run, data = Run(self.run_), self._data
        if X is not None:
            rows = self._rows(X)
            if data is None and (run.load_data() or {}).get("source") == IN_MEMORY:
                gone = [name for name in metrics or () if name in METRICS and METRICS[name].needs == "training"]
                if gone:
                    raise InputError(
                        f"The score {gone[0]} needs the training rows, which were given from Python.",
                        "Leave the score out, or take it before the estimator is saved.",
                    )
                data = halves(ROWS_IN_MEMORY, rows, seed=seed)
            else:
                data = replace(data or data_of_run(run), held_out=rows)
            # A run keeps the record only where no metrics are named, and this one is not about its held-out rows.
            metrics = list(METRICS) if metrics is None else metrics
        return evaluate(run, data=data, n=n, metrics=metrics, exact=exact, seed=seed, device=self.device)

    def _rows(self, X: Any, *, whole: bool = False) -> pl.DataFrame:
        """Give rows of any type as a frame with the model's columns; `whole` keeps rows without any value."""
        names = list(self.feature_names_in_)
        frame = CONTAINERS[container_of(X)].take(X, names)
        try:
            types = self._fitted().encoding.types
            return check_table(frame, name=ROWS_IN_MEMORY, columns=names, min_rows=1, whole=whole, learnt=types).rows
        except InputError as error:
            raise error.without_options("Mend these values.") from error

    # Files

    def export(self, path: str | Path, *, format: str | None = None, **options: Any) -> dict[str, Any]:
        """Write the sampler of a diffusion model as one file that other programs run.

        Args:
            path: the file.
            format: ``onnx``, ``torchscript`` or ``pt2``; None takes it from the suffix of the path.
            options: further arguments of `dualdiff_cli.export`, such as ``sampler``.

        Returns:
            The record that ``dualdiff export --json`` prints.

        Raises:
            InputError: the model is not fitted or is no diffusion model, or the format is unknown.
            ToleranceError: the file does not do what the model does; it is not left behind.

        Examples:
            >>> import dualdiff_cli as dualdiff
            >>> small = {"data.points": 500, "data.held_out_points": 500, "model.width": 8}
            >>> estimator = dualdiff.DualDiff("baseline", "paper", steps=20, settings=small).fit("line")
            >>> estimator.export("line.onnx", sampler="ddim", sample_steps=4)["inputs"]
            ['noise']

        """
        self._fitted()
        return export(self.run_, output=path, format=format, **{"device": self.device, **options})

    def save(self, directory: str | Path) -> Path:
        """Keep a copy of the run, which `load` and the commands of ``dualdiff`` read; give its path.

        Rows that were given from Python are not kept, unless the model consists of them. Without them the commands
        ``sample``, ``impute``, ``score`` and ``export`` work, and ``evaluate``, ``report``, ``plot``, ``explore`` and
        ``animate`` do not; the pictures of the training are in the folder ``figures/`` of the copy.

        Raises:
            InputError: the model is not fitted, or the directory is not empty.

        Examples:
            >>> import numpy as np
            >>> import dualdiff_cli as dualdiff
            >>> rows = np.random.default_rng(0).normal(size=(100, 1))
            >>> directory = dualdiff.DualDiff(model="kernel-density").fit(rows).save("kept")
            >>> dualdiff.DualDiff.load(directory).sample(5).shape
            (5, 1)

        """
        self._fitted()
        directory = Path(directory)
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise InputError(f"The directory {directory} is not empty.", "Name another one.")
        shutil.copytree(self.run_, directory, dirs_exist_ok=True)
        return directory

    @classmethod
    def load(cls, directory: str | Path, *, device: str = "auto", verbose: bool = False) -> Self:
        """Read an estimator that was saved, or any finished run of ``dualdiff train``.

        The parameters have every setting of the run that is not its recipe's: ``fit``, also of a clone, trains as the
        run was trained.

        Args:
            directory: of the run.
            device: where the model is loaded.
            verbose: see `DualDiff`.

        Raises:
            InputError: there is no finished run.

        Examples:
            >>> import dualdiff_cli as dualdiff
            >>> settings = ["model.components=4", "data.points=500"]
            >>> config = dualdiff.resolve(dataset="moons", model="mixture", settings=settings)
            >>> run = dualdiff.train(config, path="a-run")["run"]
            >>> dualdiff.DualDiff.load(run).sample(2).shape
            (2, 2)

        """
        run = Run.open(directory)
        config = run.config
        asked = unsettled(config) if isinstance(config, DiffusionConfig) else config
        plain = resolve(dataset=config.dataset, model=config.model.name, recipe=config.recipe)
        settings = difference(asked.model_dump(exclude={"seed"}), plain.model_dump())
        steps = settings.get("training", {}).pop("steps", None)
        estimator = cls(
            config.model.name,
            config.recipe,
            steps,
            seed=config.seed,
            settings=settings or None,
            device=device,
            verbose=verbose,
        )
        provenance = run.load_data() or {}
        estimator._open(run, None, str(provenance.get("container", "polars")))
        return estimator

    # Notebooks

    def _repr_html_(self) -> str:
        """Show the parameters and, once fitted, the main facts of the training and the picture of the samples."""
        shown: str = estimator_html_repr(self)
        return shown + (facts_and_picture(self.run_, getattr(self, "record_", {})) if hasattr(self, "run_") else "")

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self._repr_html_()}

    def __getstate__(self) -> Any:
        if hasattr(self, "run_"):
            raise InputError("A fitted DualDiff lives in a directory and cannot be pickled.", "Use save and load.")
        return super().__getstate__()
