"""An exported sampler that takes given cells draws what `sample --given` of the run draws."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import polars as pl
import pytest
import torch
from tiny import NARROW, finished, narrow
from torch import Tensor

from dualdiff_cli import seeding
from dualdiff_cli.config.recipes import resolve_diffusion
from dualdiff_cli.data import TableEncoding
from dualdiff_cli.diffusion.independent import IndependentDenoiser, Marginal
from dualdiff_cli.diffusion.mixtures import FullMixtureDenoiser
from dualdiff_cli.diffusion.samplers import Reach
from dualdiff_cli.diffusion.stacking import StackedDenoiser
from dualdiff_cli.errors import InputError
from dualdiff_cli.exporting.given import GivenDenoiser, inverted
from dualdiff_cli.exporting.runtime import ExportedModel
from dualdiff_cli.jobs.export import export
from dualdiff_cli.models import DrawingOptions
from dualdiff_cli.models.diffusion import DiffusionModel
from dualdiff_cli.models.fitting import build_denoiser
from dualdiff_cli.store.run import Run

COMPONENTS = 3
GIVEN = {"values": "0.5", "side": "right"}
"""Given cells, one of a column whose name is that of an input."""


def draws(*shape: int, role: str) -> Tensor:
    return torch.randn(*shape, generator=seeding.torch_stream(0, role), dtype=torch.float64)


def frame() -> pl.DataFrame:
    rng = seeding.stream(0, "rows of the given exports")
    x = rng.normal(size=(200, 2))
    return pl.DataFrame({"values": x[:, 0], "y, mm": 1000 + 50 * x[:, 1], "side": rng.choice(["left", "right"], 200)})


def model_of_few_rows() -> DiffusionModel:
    """Give a model whose network and mixture were not trained, but all of whose numbers matter."""
    sections = {
        "model": {**NARROW, "width": 8, "blocks": 1},
        "sampling": {"steps": 4},
        "folds": {"levels": 6, "bands": 1},
    }
    config = resolve_diffusion(
        dataset="rows.csv", recipe="few-rows", options={**sections, "schedule": {"sigma_min": 0.01}}
    )
    encoding = TableEncoding.fit(frame())
    d = encoding.width
    denoiser = build_denoiser(config, encoding.layout)
    assert isinstance(denoiser, StackedDenoiser)
    with torch.no_grad():
        for k, parameter in enumerate(denoiser.parameters()):
            if not parameter.any():
                parameter.copy_(0.1 * draws(*parameter.shape, role=f"parameter {k}"))
        denoiser.learnt.limit(torch.from_numpy(encoding.encode(frame(), None)).float())
        denoiser.gate_weights = torch.softmax(draws(3, 6, COMPONENTS, 3, role="weights of the experts"), -1)
        denoiser.feature_weights = torch.softmax(draws(3, 6, d, 4, role="weights of the features"), -1)
    factors = draws(COMPONENTS, d, d, role="factors") / d**0.5
    weights = torch.softmax(draws(COMPONENTS, role="weights"), 0)
    means = draws(COMPONENTS, d, role="means")
    denoiser.mixture = FullMixtureDenoiser(weights, means, factors @ factors.mT, denoiser.schedule)
    marginals = [
        Marginal(*(draws(4, role=f"{name} of feature {i}") for name in ("weights", "means", "variances")))
        for i in range(d)
    ]
    marginals = [Marginal(w.softmax(0), mu, v.square() + 0.01) for w, mu, v in marginals]
    denoiser.independent = IndependentDenoiser.of(marginals, denoiser.schedule, denoiser.learnt.discrete_means)
    return DiffusionModel(config, encoding, denoiser.requires_grad_(False).eval(), torch.device("cpu"))


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return model_of_few_rows()


@pytest.fixture(scope="module")
def run(model: DiffusionModel, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run.create(model.config, tmp_path_factory.mktemp("given") / "run")
    model.save(run)
    return run


@pytest.fixture(scope="module")
def exported(run: Run) -> ExportedModel:
    record = export(run, given=True, sampler="dpmpp-2m")
    assert record["inputs"] == ["noise", "values", "given"]
    assert record["max_abs_error"] <= record["tolerance"] < 0.01
    return ExportedModel.open(record["output"], device="cpu")


# The denoiser


def test_elimination_inverts_covariances_and_gives_their_volume() -> None:
    factors = draws(4, 6, 6, role="matrices")
    matrices = factors @ factors.mT + 1e-3 * torch.eye(6, dtype=torch.float64)
    inverses, log_volumes = inverted(matrices)
    torch.testing.assert_close(inverses, torch.linalg.inv(matrices), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(log_volumes, torch.linalg.slogdet(matrices)[1])


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_the_denoiser_of_a_graph_gives_the_conditional_mean_of_the_model(share: float, model: DiffusionModel) -> None:
    d, schedule = model.encoding.width, model.denoiser.schedule
    given = torch.arange(d) < share * d
    x_t, values = draws(7, d, role="noisy rows"), draws(7, d, role="values")
    for t in (*schedule.ends, sum(schedule.ends) / 2):
        expected = model.denoiser.conditioned(values, given)(x_t, t)
        torch.testing.assert_close(GivenDenoiser(model.denoiser)(x_t, t, values, given), expected, rtol=0, atol=1e-6)


# The file


def test_a_file_draws_the_rows_around_given_cells_that_the_run_draws(
    exported: ExportedModel, model: DiffusionModel
) -> None:
    for given in ({}, GIVEN):
        own = exported.sample(300, seed=2, options=DrawingOptions(given=given))
        expected = model.sample(300, seed=2, options=DrawingOptions(sampler="dpmpp-2m", given=given))
        np.testing.assert_allclose(own["y, mm"], expected["y, mm"], rtol=0, atol=0.05)
        assert (own["side"] == expected["side"]).mean() > 0.99  # type: ignore[operator]
        np.testing.assert_allclose(own["values"], expected["values"], rtol=0, atol=1e-3)
    assert set(own["side"]) == {"right"}
    assert set(own["values"]) == {0.5}


@pytest.mark.parametrize("of_file", [False, True], ids=["run", "file"])
def test_rows_that_are_absurd_are_refused_with_the_given_cells_that_may_be_why(
    of_file: bool, exported: ExportedModel, model: DiffusionModel
) -> None:
    d = model.encoding.width
    missed = replace(exported if of_file else model, reach=Reach((1e6,) * d, (1e6 + 1,) * d))
    for given, named in ((GIVEN, "values = 0.5, side = right"), ({}, "Take more")):
        with pytest.raises(InputError, match="9 times") as caught:
            missed.sample(5, seed=2, options=DrawingOptions(given=given))
        assert named in caught.value.remedy
        assert "--sample-steps" in caught.value.remedy


def test_the_example_in_numpy_draws_rows_without_given_cells(
    exported: ExportedModel, model: DiffusionModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["onnx_numpy.py", str(exported.path), "50", str(tmp_path / "rows.csv"), "2"])
    runpy.run_path(str(Path(__file__).parents[2] / "examples" / "onnx_numpy.py"))
    expected = model.sample(50, seed=2, options=DrawingOptions(sampler="dpmpp-2m"))
    np.testing.assert_allclose(pl.read_csv(tmp_path / "rows.csv")["y, mm"], expected["y, mm"], rtol=0, atol=0.05)


def test_without_this_package_values_may_differ_from_row_to_row(exported: ExportedModel, model: DiffusionModel) -> None:
    session = onnxruntime.InferenceSession(exported.path)
    values = model.encoding.encode(frame().head(5), None)
    given = np.ones(model.encoding.width, dtype=bool)
    given[slice(*exported.metadata["spans"]["y, mm"])] = False
    noise = draws(5, model.encoding.width, role="noise").float().numpy()
    names = ["side", "values_column", "y, mm"]
    side, x, y = session.run(names, {"noise": noise, "values": values, "given": given})
    levels = exported.metadata["encoding"]["columns"][2]["levels"]
    assert [levels[k] for k in side] == frame()["side"].head(5).to_list()
    np.testing.assert_allclose(x, frame()["values"].head(5), rtol=1e-9)
    assert not np.isclose(y, frame()["y, mm"].head(5), rtol=1e-6).any()


def test_a_file_without_inputs_for_given_cells_names_the_option_that_adds_them(run: Run, tmp_path: Path) -> None:
    record = export(run, format="torchscript", output=tmp_path / "plain.ts", sampler="dpmpp-2m")
    plain = ExportedModel.open(record["output"], device="cpu", trust=True)
    with pytest.raises(InputError, match=r"no inputs for given cells.*export --given"):
        plain.sample(5, seed=0, options=DrawingOptions(given=GIVEN))


@pytest.mark.parametrize(
    ("options", "problem", "remedy"),
    [
        ({"what": "denoiser"}, "--given is about samplers", "--what"),
        ({"format": "torchscript"}, "torchscript", "onnx"),
    ],
)
def test_what_takes_no_given_cells_is_refused(options: dict[str, str], problem: str, remedy: str, run: Run) -> None:
    with pytest.raises(InputError) as caught:
        export(run, given=True, **options)  # type: ignore[arg-type]
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy


def test_a_model_that_has_not_learnt_conditions_or_is_too_wide_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"not learnt.*objective\.conditional"):
        export(finished(narrow(), tmp_path / "run"), given=True)
    monkeypatch.setattr("dualdiff_cli.exporting.given.MOST_GIVEN_FEATURES", 2)
    with pytest.raises(InputError, match="at most 2 features, and this model has 3"):
        export(run, given=True)
