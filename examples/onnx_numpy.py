"""Draw rows from an exported sampler with NumPy and ONNX Runtime: python onnx_numpy.py FILE.onnx N OUT.csv [SEED]."""

import csv
import json
import sys

import numpy as np
import onnxruntime

path, n, output, seed = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else 0
session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
columns = json.loads(session.get_modelmeta().custom_metadata_map["encoding"])["columns"]
shapes = {value.name: value.shape for value in session.get_inputs()}
draws, dim = 1 + (shapes["step_noise"][0] if "step_noise" in shapes else 0), shapes["noise"][1]
no_cell_given = {"values": np.zeros((2048, dim)), "given": np.zeros(dim, bool)}  # of a file exported with --given
parts = []
for block in range(-(-n // 2048)):  # the blocks of noise of `dualdiff sample`, so that a seed gives the same rows
    generator = np.random.Generator(np.random.Philox(key=[seed, block]))
    noise = generator.standard_normal((draws, 2048, dim), dtype=np.float32)
    inputs = {"noise": noise[0], "step_noise": noise[1:], **no_cell_given}
    parts.append(session.run(["samples"], {name: inputs[name] for name in shapes})[0])
with open(output, "w", encoding="utf-8", newline="") as file:
    csv.writer(file, lineterminator="\n").writerow(column["name"] for column in columns)
    np.savetxt(file, np.concatenate(parts)[:n], delimiter=",", fmt="%.17g")
