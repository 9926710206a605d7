"""Compares an exported file, run by onnxruntime, with the graph's own definition in float64 by numpy.

Usage: onnx_reference.py FOLDER, which holds graph.json (nodes in order: name, op, inputs, and the operator's fields),
weights.json (name -> [shape, offset]), weights.bin (float32), and model files to be compared. Prints one line a model: file
name, largest difference relative to the largest value.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

folder = Path(sys.argv[1])
nodes = json.loads((folder / "graph.json").read_text())
values = np.fromfile(folder / "weights.bin", "<f4").astype(np.float64)
weights = {
    name: values[offset : offset + math.prod(shape)].reshape(shape)
    for name, (shape, offset) in json.loads((folder / "weights.json").read_text()).items()
}
erf = np.vectorize(math.erf)


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def run(node, inputs):
    name, op = node["name"], node["op"]
    w = lambda suffix: weights[f"{name}.{suffix}"]
    x = inputs[0]
    if op == "PatchEmbed":
        p, tubelets = node["patch_size"], node["tubelets"]
        x = x.reshape(-1, x.shape[1] // tubelets, *x.shape[2:])
        n, c, h, width = x.shape
        patches = x.reshape(n, c, h // p, p, width // p, p).transpose(0, 2, 4, 1, 3, 5).reshape(n, -1, c * p * p)
        tokens = patches @ w("weight").reshape(-1, c * p * p).T + w("bias")
        return tokens.reshape(n // tubelets, -1, tokens.shape[-1])
    if op == "InsertTokens":
        before, behind = x[:, : node["at"]], x[:, node["at"] :]
        return np.concatenate([before, np.repeat(weights[name], len(x), 0), behind], 1)
    if op == "DropTokens":
        return np.delete(x, slice(node["at"], node["at"] + node["count"]), 1)
    if op == "PixelShuffle":
        (h, w), f, n = node["grid"], node["factor"], len(x)
        return x.reshape(n, h, w, f, f, -1).transpose(0, 1, 3, 2, 4, 5).reshape(n, h * w * f * f, -1)
    if op == "PosEmbed":
        return x + weights[name]
    if op == "LayerNorm":
        mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return (x - mean) / np.sqrt(var + node["eps"]) * w("weight") + w("bias")
    if op == "Linear":
        return x @ w("weight").T + (w("bias") if node["bias"] else 0)
    if op == "Gelu":
        return x * (1 + erf(x / math.sqrt(2))) / 2
    if op == "GeluTanh":
        return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
    if op == "QuickGelu":
        return x / (1 + np.exp(-1.702 * x))
    if op == "Silu":
        return x / (1 + np.exp(-x))
    if op == "Relu":
        return np.maximum(x, 0)
    if op == "AttentionPool":
        n, length, width = x.shape
        k, v = x.reshape(n, length, 2, node["num_heads"], -1).transpose(2, 0, 3, 1, 4)
        q = w("query").reshape(1, node["num_heads"], 1, -1)
        return (softmax(node["scale"] * q @ k.swapaxes(-1, -2)) @ v).reshape(n, width // 2)
    if op == "Attention":
        n, length, width = x.shape
        q, k, v = x.reshape(n, length, 3, node["num_heads"], -1).transpose(2, 0, 3, 1, 4)
        mixed = softmax(node["scale"] * q @ k.swapaxes(-1, -2)) @ v
        return mixed.transpose(0, 2, 1, 3).reshape(n, length, width // 3)
    if op == "LayerScale":
        return x * w("gamma")
    if op == "Add":
        return x + inputs[1]
    if op == "TakeClassToken":
        return x[:, 0]
    if op == "MeanTokens":
        return x[:, node["skip"] :].mean(1)
    if op == "RepAdapter":
        hidden = x @ w("adapter_A.weight").T + w("adapter_A.bias")
        halves = np.split(hidden, node["groups"], -1)
        rows = np.split(w("adapter_B.weight"), node["groups"], 0)
        branch = np.concatenate([half @ row.T for half, row in zip(halves, rows)], -1) + w("adapter_B.bias")
        return x + node["scale"] * branch
    raise ValueError(f"{name}: unknown operator {op}")


for path in sorted(folder.glob("*.onnx")):
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    [source] = session.get_inputs()
    [target] = session.get_outputs()
    batch = 3 if source.shape[0] == "batch" else source.shape[0]
    pixels = np.random.default_rng(5).standard_normal([batch, *source.shape[1:]]).astype(np.float32)
    outputs = [pixels.astype(np.float64)]
    for node in nodes[1:]:
        outputs.append(run(node, [outputs[i] for i in node["inputs"]]))
    [got] = session.run(None, {source.name: pixels})
    expected = outputs[-1]
    assert got.shape == expected.shape, f"{path.name}: {got.shape} against {expected.shape}"
    print(path.name, source.name, target.name, np.abs(got - expected).max() / np.abs(expected).max())
