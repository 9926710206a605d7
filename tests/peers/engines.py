"""Times ONNX files in our runtime, in plain tract and in onnxruntime, which take turns.

Usage: engines.py PROGRAM THREADS ROUNDS FILE..., where PROGRAM is what `cargo build --release -p edge-vit-tests --example turns` makes. `cargo bench -p edge-vit-tests --bench merged -- 224 1 FOLDER` writes
such files. Prints medians in milliseconds, and the ratios of ours to the others'.
"""

import sys

import onnxruntime

from turns import child, medians, session

program, threads, rounds, files = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]

print(f"onnxruntime {onnxruntime.__version__}, {rounds} rounds in turns, threads: {threads} (tract: 1)")
print("| file | ours ms | tract ms | onnxruntime ms | ours to tract | ours to onnxruntime |")
print("|---|---:|---:|---:|---:|---:|")
for file in files:
    engines = [child(program, engine, threads, file) for engine in ("ours", "tract")] + [session(file, threads)]
    ours, tract, other = (seconds * 1e3 for seconds in medians(engines, rounds))
    print(f"| {file} | {ours:.1f} | {tract:.1f} | {other:.1f} | {ours / tract:.3f} | {ours / other:.3f} |", flush=True)
