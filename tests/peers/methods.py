"""Trains every method under one budget, and prints one table of them.

Usage: methods.py TOOL BACKBONE DATA OUT, where TOOL is edge-vit-tools and DATA holds train/ and test/.

A method has two learning rates to choose from, by the validation accuracy of seed 0; seeds 1 and 2 then train with the
chosen one. All three are folded, and measured once on the test pictures through the device's code. OUT/results.jsonl
holds a line for each run; a script that was stopped goes on behind the last of them.
"""

import json
import pathlib
import resource
import statistics
import subprocess
import sys

BUDGET = "--image-size 56 --epochs 6 --batch-size 32 --val-fraction 0.2 --device cpu --quiet".split()
SEEDS = [0, 1, 2]
PETL, WHOLE, HEAD = (2e-3, 5e-3), (1e-4, 4e-4), (1e-2, 4e-2)
METHODS = {
    "repadapter": ([], PETL),
    "repadapter every-linear": (["--placement", "every-linear"], PETL),
    "consolidator": ([], PETL),
    "ssf": ([], PETL),
    "lora": ([], PETL),
    "rlrr": ([], PETL),
    "dora": ([], PETL),
    "oft": ([], PETL),
    "fact": ([], PETL),
    "arc": ([], PETL),
    "bitfit": ([], PETL),
    "layernorm": ([], PETL),
    "linear": ([], HEAD),
    "lastblocks": ([], WHOLE),
    "full": ([], WHOLE),
    "adapter": ([], PETL),
    "adaptformer": ([], PETL),
    "vpt-deep": ([], PETL),
}

tool, backbone, data, out = sys.argv[1], *map(pathlib.Path, sys.argv[2:5])
out.mkdir(parents=True, exist_ok=True)
results = out / "results.jsonl"
done = {}
if results.exists():
    for line in results.read_text().splitlines():
        record = json.loads(line)
        done[record["key"]] = record


def run(*arguments):
    """The program's output, and the processor's seconds that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ran = subprocess.run([tool, *map(str, arguments)], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if ran.returncode:
        raise RuntimeError(ran.stderr)
    return ran.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def once(key, make):
    if key not in done:
        done[key] = {"key": key, **make()}
        with results.open("a") as file:
            file.write(json.dumps(done[key]) + "\n")
        print(done[key], file=sys.stderr, flush=True)
    return done[key]


def train(name, flags, lr, seed):
    folder = out / f"{name} {lr} {seed}"

    def make():
        arguments = ["--method", name.split()[0], *flags, *BUDGET, "--lr", lr, "--seed", seed]
        _, seconds = run("train", "--backbone", backbone, "--data", data, "--out", folder, *arguments)
        epochs = [record for record in map(json.loads, (folder / "log.jsonl").open()) if record["kind"] == "epoch"]
        best = next(record for record in reversed(epochs) if record["best"])
        return {"val": best["val_top1"], "val_loss": best["val_loss"], "epoch": best["epoch"], "seconds": seconds}

    return folder, once(f"train {name} {lr} {seed}", make)


def validated(record):
    """What the lower of is better: accuracy first, then loss."""
    return -record["val"], record["val_loss"]


def test(name, lr, seed, folder):
    def make():
        model, adapters = folder / "model.onnx", folder / "adapters.safetensors"
        run("fold", "--backbone", backbone, "--adapters", adapters, "--out", model)
        merged, trained = (json.loads(run("info", "--json", file)[0]) for file in (model, adapters))
        figures = json.loads(run("eval", "--model", model, "--data", data / "test", "--json")[0])
        if seed:
            model.unlink()
        return {
            "top1": figures["top1"]["share"],
            "fold_error": merged["provenance"]["fold_error"],
            "operators": sum(merged["operators"].values()),
            "parameters": trained["adapter_parameters"],
        }

    return once(f"test {name} {lr} {seed}", make)


chosen = {}
for name, (flags, rates) in METHODS.items():
    chosen[name] = min(rates, key=lambda lr: validated(train(name, flags, lr, 0)[1]))
for name, (flags, rates) in METHODS.items():
    for seed in SEEDS:
        folder, _ = train(name, flags, chosen[name], seed)
        if name not in ("adapter", "adaptformer", "vpt-deep"):
            test(name, chosen[name], seed, folder)
