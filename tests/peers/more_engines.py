"""Times ONNX files in our runtime, in OpenVINO and in PyTorch, which take turns, on one thread.

Usage: more_engines.py PROGRAM ROUNDS FILE[=NAME]..., where PROGRAM is what `cargo build --release -p edge-vit-tests --example turns`
makes, and NAME is timm's of the same architecture: PyTorch takes part in float32 with random weights, eager and compiled by
`torch.jit.trace`, of which the faster counts. Prints medians in milliseconds, and the ratios of ours to the others'.
"""

import sys

import numpy as np
import openvino

from turns import child, medians, timed

program, rounds, files = sys.argv[1], int(sys.argv[2]), sys.argv[3:]


def compiled(file):
    """The file in OpenVINO, and the shape of its input."""
    config = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(file, "CPU", config).create_infer_request()
    shape = [int(side) for side in request.model_inputs[0].shape]
    picture = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return timed(lambda: request.infer([picture])), shape


def pytorch(name, shape):
    import timm
    import torch

    torch.set_num_threads(1)
    model = timm.create_model(name, img_size=shape[-1], num_classes=0).eval()
    picture = torch.randn(shape)
    with torch.inference_mode():
        traced = torch.jit.freeze(torch.jit.trace(model, picture))

    def run(model):
        with torch.inference_mode():
            model(picture)

    return [timed(lambda: run(model)), timed(lambda: run(traced))]


print(f"OpenVINO {openvino.__version__.split('-')[0]}, {rounds} rounds in turns, one thread")
print("| file | ours ms | OpenVINO ms | PyTorch ms | ours to OpenVINO | ours to PyTorch |")
print("|---|---:|---:|---:|---:|---:|")
for argument in files:
    file, _, name = argument.partition("=")
    other, shape = compiled(file)
    engines = [child(program, "ours", 1, file), other, *(pytorch(name, shape) if name else [])]
    mine, vino, *torches = (seconds * 1e3 for seconds in medians(engines, rounds))
    torch_cells = [f"{min(torches):.1f}", f"{mine / min(torches):.3f}"] if torches else ["", ""]
    print(f"| {file} | {mine:.1f} | {vino:.1f} | {torch_cells[0]} | {mine / vino:.3f} | {torch_cells[1]} |", flush=True)
