"""What each score means, for a reader who has never met it: what it is, what its floor is, and when it misleads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["MEANINGS", "Meaning", "meaning_of"]


@dataclass(frozen=True)
class Meaning:
    """The words for one score.

    Attributes:
        title: a short name.
        what: what the score says.
        caution: when the score misleads.

    """

    title: str
    what: str
    caution: str


MEANINGS: Mapping[str, Meaning] = {
    "kl_real_generated": Meaning(
        "Divergence of the data from the samples",
        "D(data ‖ samples), in bits a row, from the distances to the five nearest neighbours. The score is large where "
        "there are real rows but hardly any samples, so it finds parts of the data that the model misses.",
        "With few rows or many columns the estimate has a bias; the floor has the same bias, so compare with the floor "
        "and not with zero.",
    ),
    "kl_generated_real": Meaning(
        "Divergence of the samples from the data",
        "D(samples ‖ data), in bits a row, from the distances to the five nearest neighbours. The score is large where "
        "there are samples but hardly any real rows, so it finds samples that should not exist.",
        "With few rows or many columns the estimate has a bias; the floor has the same bias, so compare with the floor "
        "and not with zero.",
    ),
    "kl_published": Meaning(
        "Divergence as the paper defines it",
        "D(training rows ‖ samples), in bits a row. The published tables use this definition.",
        "A model that copies its training rows gets a good score.",
    ),
    "sliced_wasserstein": Meaning(
        "Sliced transport distance",
        "How far the samples have to be moved to become the data, averaged over directions. A shift of everything by "
        "one unit gives about one unit divided by the root of the number of columns.",
        "The score hardly sees fine structure, such as thin lines or narrow gaps.",
    ),
    "wasserstein2": Meaning(
        "Transport distance",
        "The root of the mean squared distance by which points have to be moved to turn the samples into the data, "
        "each point to one partner.",
        "The floor is high in many columns, because two sets of perfect rows are far from each other, too.",
    ),
    "classifier_two_sample": Meaning(
        "Accuracy of a classifier",
        "The share of rows that a classifier, trained to tell samples from real rows, puts on the right side. At one "
        "half the classifier can only guess.",
        "A classifier that has not learnt enough also guesses, so a good score is weaker evidence than a bad one.",
    ),
    "classifier_auc": Meaning(
        "Ranking by a classifier",
        "The probability that a classifier finds a sample more suspicious than a real row. At one half the classifier "
        "cannot tell them apart.",
        "A classifier that has not learnt enough cannot tell them apart either.",
    ),
    "memorisation": Meaning(
        "Nearness to the training rows",
        "The share of samples that are nearer to a training row than to any of as many unseen rows. New rows have one "
        "half; a model that repeats its training rows has one.",
        "A model that misses the data altogether also has one half.",
    ),
    "copies": Meaning(
        "Copies of training rows",
        "The share of samples that equal a training row, or are less than a third as far from it as from the second "
        "nearest. Unseen real rows meet this rule by chance, too, and the floor is their share.",
        "Among whole numbers, equal rows are no sign of copying.",
    ),
    "column_distance": Meaning(
        "Distance of the columns",
        "The mean over all columns of the Kolmogorov-Smirnov distance of the numbers, or of the total variation of the "
        "values where there are few; 0 is equal and 1 is disjoint.",
        "The score looks at one column at a time and says nothing about how columns belong together.",
    ),
    "worst_column": Meaning(
        "Distance of the worst column",
        "The distance of the column that is reproduced worst; the note names the column.",
        "Among many columns one has a large distance by chance; the floor has this chance, too.",
    ),
    "association": Meaning(
        "Difference of the associations",
        "The mean absolute difference of the rank correlations of all pairs of features of different columns.",
        "A rank correlation sees relations that rise or fall throughout, and misses others.",
    ),
    "precision": Meaning(
        "Precision",
        "The share of samples that lie inside the balls which reach from each real row to its fifth-nearest neighbour.",
        "Copies of real rows have a perfect precision, and outliers among the real rows have large balls.",
    ),
    "recall": Meaning(
        "Recall",
        "The share of real rows that lie inside the balls which reach from each sample to its fifth-nearest neighbour.",
        "Samples that are spread too widely have large balls and a high recall.",
    ),
    "density": Meaning(
        "Density",
        "The mean number of balls of real rows that a sample lies in, divided by five; perfect samples get about 1.",
        "More than 1 means that the samples crowd where the real rows are dense.",
    ),
    "coverage": Meaning(
        "Coverage",
        "The share of real rows whose ball holds at least one sample; perfect samples get about 0.97.",
        "The score depends on the number of samples, so compare with the floor.",
    ),
    "tstr": Meaning(
        "Train on samples, test on real rows",
        "How well boosted trees that have learnt from samples predict the target column of real rows: the share of "
        "right predictions for a column with few values, and R² for a number.",
        "The score sees only what the target depends on, and a model that copies its training rows gets the floor.",
    ),
    "mode_coverage": Meaning(
        "Modes that are found",
        "The share of the modes of the density that hold at least a fifth of the samples that they should hold.",
        "A mode that is found can still have a wrong share; see the shares of the modes.",
    ),
    "off_mode_share": Meaning(
        "Samples between the modes",
        "The share of samples that lie outside every mode.",
        "The radius of a Gaussian mode is four standard deviations, so perfect samples have a small share, too.",
    ),
    "mode_share_tv": Meaning(
        "Shares of the modes",
        "The share of samples that would have to go to another mode for all modes to have the right shares.",
        "The score does not see what happens within a mode.",
    ),
    "held_out_loss": Meaning(
        "Loss on unseen rows",
        "The mean squared error of what the network predicts, on rows that it has not learnt. Most of this error is "
        "noise that no network can predict, so the value says little by itself; compare it between two models.",
        "Two recipes with other schedules or predictions have other losses.",
    ),
    "training_loss_published": Meaning(
        "Training loss as the paper gives it",
        "The mean squared error of the last weights on the training rows.",
        "The loss of the training rows does not see over-fitting.",
    ),
    "nll_held_out": Meaning(
        "Negative log-likelihood",
        "The mean number of bits that the model needs for an unseen row. For a density the floor is its entropy.",
        "The value depends on the units of the columns.",
    ),
    "nll_excess": Meaning(
        "Bits above the entropy",
        "The mean number of bits that the model needs for an unseen row beyond what the best model needs.",
        "The value is the difference of two means and can be slightly negative.",
    ),
    "kl_real_model": Meaning(
        "Exact divergence of the model",
        "D(data ‖ model), in bits a row, from the densities themselves: no neighbours, no samples and no floor but 0.",
        "The density is that of the probability flow, not that of a sampler with fresh noise.",
    ),
    "kl_path": Meaning(
        "Error of the network",
        "An upper bound, in bits a row, of what the network alone adds to the divergence.",
        "The sampler and the schedule have no part in it.",
    ),
}
"""The words by the name of the score."""


def meaning_of(name: str) -> Meaning:
    """Give the words of a score; a score without words has its own name as title."""
    return MEANINGS.get(name) or Meaning(name.replace("_", " "), "No description is known for this score.", "")
