"""Trains every method under one budget, each at the learning rate that suits it best, and prints one table of them.

Usage: methods.py TOOL BACKBONE DATA OUT [METHOD...], where TOOL is edge-vit-tools and DATA holds train/ and test/; without names, all
methods.

The learning rate is chosen by the validation loss of seed 0: from the first guess upwards while that lowers the loss, or else downwards. At the
chosen one seeds 0, 1 and 2 are folded and measured once on the test pictures through the device's code. OUT/results.jsonl holds a line
for each run; a script that was stopped goes on behind the last of them, and several may share it, each with methods of its own.
"""

import json
import pathlib
import statistics
import sys

from runs import Runs, kept_epoch, run

BUDGET = "--image-size 56 --epochs 6 --batch-size 32 --val-fraction 0.2 --device cpu --no-probe --quiet".split()
SEEDS = [0, 1, 2]
RATES = [float(f"{digit}e{exponent}") for exponent in range(-6, 0) for digit in (1, 2, 5)]
# Flags, and the first guess of the highest learning rate.
METHODS = {
    "repadapter": ([], 2e-3),
    "repadapter without dropout": (["--dropout", "0"], 2e-3),
    "ssf": ([], 2e-3),
    "rlrr": ([], 2e-3),
    "bitfit": ([], 2e-3),
    "dora": ([], 2e-3),
    "consolidator": ([], 2e-3),
    "oft": ([], 2e-3),
    "lora": ([], 2e-3),
    "repadapter every-linear": (["--placement", "every-linear"], 2e-3),
    "fact": ([], 2e-3),
    "arc": ([], 2e-3),
    "layernorm": ([], 2e-3),
    "linear": ([], 1e-2),
    "lastblocks": ([], 1e-4),
    "full": ([], 1e-4),
}

tool, backbone, data, out = sys.argv[1], *map(pathlib.Path, sys.argv[2:5])
names = sys.argv[5:] or list(METHODS)
runs = Runs(out)


def train(name, flags, lr, seed):
    folder = out / f"{name} {lr} {seed}"

    def make():
        arguments = ["--method", name.split()[0], *flags, *BUDGET, "--lr", lr, "--seed", seed]
        _, seconds = run(tool, "train", "--backbone", backbone, "--data", data, "--out", folder, *arguments)
        kept = kept_epoch(folder)
        return {"val": kept["val_top1"], "val_loss": kept["val_loss"], "epoch": kept["epoch"], "seconds": seconds}

    return folder, runs.once(f"train {name} {lr} {seed}", make)


def test(name, lr, seed, folder):
    def make():
        model, adapters = folder / "model.onnx", folder / "adapters.safetensors"
        run(tool, "fold", "--backbone", backbone, "--adapters", adapters, "--out", model)
        merged, trained = (json.loads(run(tool, "info", "--json", file)[0]) for file in (model, adapters))
        figures = json.loads(run(tool, "eval", "--model", model, "--data", data / "test", "--json")[0])
        if seed:
            model.unlink()
        return {
            "top1": figures["top1"]["share"],
            "fold_error": merged["provenance"]["fold_error"],
            "operators": sum(merged["operators"].values()),
            "parameters": trained["adapter_parameters"],
        }

    return runs.once(f"test {name} {lr} {seed}", make)


def best_rate(name, flags, guess):
    def loss(at):
        _, trained = train(name, flags, RATES[at], 0)
        return trained["val_loss"]

    guess = min(range(len(RATES)), key=lambda at: abs(RATES[at] / guess - 1))
    for step in (1, -1):
        at = guess
        while 0 <= at + step < len(RATES) and loss(at + step) < loss(at):
            at += step
        if at != guess:
            break
    return RATES[at]


rows = []
for name in names:
    flags, guess = METHODS[name]
    lr = best_rate(name, flags, guess)
    trained, tested = [], []
    for seed in SEEDS:
        folder, record = train(name, flags, lr, seed)
        trained.append(record)
        tested.append(test(name, lr, seed, folder))
    rows.append((statistics.mean(run["top1"] for run in tested), name, lr, trained, tested))
print("| method | parameters | learning rate | test accuracy, mean | lowest to highest | validation | s | fold error | operators |")
print("|---|---:|---:|---:|---|---:|---:|---:|---:|")
for mean, name, lr, trained, tested in sorted(rows, reverse=True):
    top1 = [run["top1"] for run in tested]
    val = statistics.mean(run["val"] for run in trained)
    seconds = statistics.mean(run["seconds"] for run in trained)
    error = max(run["fold_error"] for run in tested)
    print(
        f"| {name} | {tested[0]['parameters']:,} | {lr} | {100 * mean:.1f} % | {100 * min(top1):.1f} to {100 * max(top1):.1f} |"
        f" {100 * val:.1f} % | {seconds:.0f} | {error:.1e} | {tested[0]['operators']} |"
    )
