"""Folds one training with more and more merged tokens, and prints what each number costs and saves.

Usage: token_merging.py TOOL PROGRAM THREADS ROUNDS BACKBONE ADAPTERS DATA OUT N..., where TOOL is edge-vit-tools, PROGRAM is what
`cargo build --release -p edge-vit-tests --example turns --locked` makes, and N are the tokens that a block merges away. DATA holds
test/, whose pictures are looked at once for each file; what is to be chosen is chosen by the validation pictures of the training.
The files take turns in our runtime; times are medians.
"""

import json
import pathlib
import subprocess
import sys

from turns import child, medians

tool, program, threads, rounds = *sys.argv[1:3], int(sys.argv[3]), int(sys.argv[4])
backbone, adapters, data, out = sys.argv[5], sys.argv[6], *map(pathlib.Path, sys.argv[7:9])
numbers = [int(number) for number in sys.argv[9:]]
out.mkdir(parents=True, exist_ok=True)


def run(*arguments):
    return json.loads(subprocess.run([tool, *map(str, arguments), "--json"], capture_output=True, text=True, check=True).stdout)


def fold(number):
    """The file, and what it says of merged tokens."""
    model = out / f"merged-{number}.onnx"
    merging = ["--merge-tokens", number, "--max-drop", 100] if number else []
    folded = run("fold", "--backbone", backbone, "--adapters", adapters, "--out", model, *merging)
    return model, folded["token_merging"]


files = {number: fold(number) for number in [0, *numbers]}
times = medians([child(program, "ours", threads, str(model)) for model, _ in files.values()], rounds)
merged = next(record for _, record in files.values() if record)
whole = {
    "tokens_left": merged["tokens"],
    "gflop": merged["gflop_unmerged"],
    "measured": {"accuracy": merged["measured"]["float32_accuracy"], "drop": 0.0},
}
print(f"{rounds} rounds in turns, threads: {threads}; {merged['measured']['pictures']} validation pictures")
print("| merged a block | tokens at the end | GFLOP | ms | to all tokens' | validation | points lost | test |")
print("|---:|---:|---:|---:|---:|---:|---:|---:|")
for (number, (model, record)), seconds in zip(files.items(), times):
    record = record or whole
    measured = record["measured"]
    test = run("eval", "--model", model, "--data", data / "test")["top1"]["share"]
    print(
        f"| {number} | {record['tokens_left']} | {record['gflop']:.2f} | {1e3 * seconds:.1f} | {seconds / times[0]:.3f} |"
        f" {100 * measured['accuracy']:.1f} % | {measured['drop']:.1f} | {100 * test:.1f} % |",
        flush=True,
    )
