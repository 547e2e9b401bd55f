"""A trained model as one file for other programs: the only part that knows ONNX, TorchScript and pt2."""
