"""Classifier guidance, the older way to a condition: python classifier_guidance.py RUN TABLE LABEL VALUE OUT.csv [W].

RUN is a finished diffusion model of columns that TABLE has, too. LABEL is another column of the table, which the model
has never seen, and VALUE is what the drawn rows are to have there. W says how strongly they follow it.
"""

import sys

import numpy as np
import polars as pl
import torch
from sklearn.neural_network import MLPClassifier

from dualdiff_cli import Run, seeding
from dualdiff_cli.data import read_table
from dualdiff_cli.diffusion.classifiers import ClassifierGuided, by_differences, noisy_inputs
from dualdiff_cli.models import load_model

run, table, label, value, output = sys.argv[1:6]
weight = float(sys.argv[6]) if len(sys.argv) > 6 else 1.0
model = load_model(Run.open(run), device=torch.device("cpu"))
rows = read_table(table).rows.drop_nulls([*model.encoding.names, label])
x = model.encoding.encode(rows, seeding.stream(0, "example"))
inputs = noisy_inputs(torch.from_numpy(x), model.denoiser.schedule, seed=0).numpy()
labels = np.tile(rows[label].cast(pl.String).to_numpy(), len(inputs) // len(x))
classifier = MLPClassifier((64, 64), alpha=0.01, early_stopping=True, random_state=0).fit(inputs, labels)
place = list(classifier.classes_).index(value)
log_p = by_differences(classifier.predict_proba, place, model.denoiser.schedule)
process = model.reverse_process(denoiser=ClassifierGuided(model.denoiser, log_p, weight))
pl.concat(process.draw(500, seed=0).chunks).write_csv(output)
