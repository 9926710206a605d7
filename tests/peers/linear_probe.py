"""The best linear probe on a backbone's frozen features, for context beside adapted results.

Features are the outputs of a plain backbone that `edge-vit-tools export` wrote, on pictures resized as training resizes
them. They are standardised; the strength of the L2 penalty is chosen on a stratified 15 percent of `train`, then the
probe is fitted on all of `train` and measured once on `test`.
    python tests/peers/linear_probe.py plain.onnx DATA
"""

import argparse
import pathlib

import numpy as np
import onnxruntime
import torch
from PIL import Image

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def features(session, folder):
    node = session.get_inputs()[0]
    height, width = node.shape[2:]
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir())
    rows, labels = [], []
    for label, name in enumerate(classes):
        for path in sorted((folder / name).iterdir()):
            picture = Image.open(path).convert("RGB").resize((width, height), Image.BICUBIC)
            pixels = (np.asarray(picture, np.float32) / 255 - MEAN) / STD
            rows.append(session.run(None, {node.name: pixels.transpose(2, 0, 1)[None]})[0].ravel())
            labels.append(label)
    return torch.tensor(np.stack(rows)), torch.tensor(labels)


def fit(x, y, penalty):
    """Multinomial logistic regression with an L2 penalty on the weights, by L-BFGS."""
    weight = torch.zeros(int(y.max()) + 1, x.shape[1], requires_grad=True)
    bias = torch.zeros(int(y.max()) + 1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=500, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(x @ weight.T + bias, y) + penalty * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach(), bias.detach()


def top1(model, x, y):
    weight, bias = model
    return ((x @ weight.T + bias).argmax(1) == y).float().mean().item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("plain")
    parser.add_argument("data", type=pathlib.Path)
    args = parser.parse_args()
    session = onnxruntime.InferenceSession(args.plain)
    x, y = features(session, args.data / "train")
    mean, std = x.mean(0), x.std(0) + 1e-6
    x = (x - mean) / std
    held_out = torch.zeros(len(y), dtype=torch.bool)
    shuffle = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    for label in y.unique():
        members = shuffle[y[shuffle] == label]
        held_out[members[: max(1, round(0.15 * len(members)))]] = True
    penalties = [10.0**e for e in range(-5, 1)]
    chosen = max(penalties, key=lambda p: top1(fit(x[~held_out], y[~held_out], p), x[held_out], y[held_out]))
    test_x, test_y = features(session, args.data / "test")
    result = top1(fit(x, y, chosen), (test_x - mean) / std, test_y)
    print(f"linear probe: test top-1 {100 * result:.2f} % (penalty {chosen:g} chosen on held-out training pictures)")


if __name__ == "__main__":
    main()
