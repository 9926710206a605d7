"""Times ONNX files in our runtime, in plain tract and in onnxruntime, which take turns.

Usage: engines.py TURNS THREADS ROUNDS FILE..., where TURNS is the example `turns` of edge-vit-tests:
`cargo run --release -p edge-vit-tests --example turns`. `cargo bench -p edge-vit-tests --bench merged -- 224 1 FOLDER` writes
such files. Prints medians in milliseconds, and the ratios of ours to the others'.
"""

import statistics
import subprocess
import sys
import time

import numpy as np
import onnxruntime

turns, threads, rounds, files = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]


def child(engine, file):
    process = subprocess.Popen([turns, engine, str(threads), file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run():
        process.stdin.write("\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    return run


def peer(file):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0]
    picture = np.random.default_rng(0).standard_normal(source.shape).astype(np.float32)

    def run():
        start = time.perf_counter()
        session.run(None, {source.name: picture})
        return time.perf_counter() - start

    return run


print(f"onnxruntime {onnxruntime.__version__}, {rounds} rounds in turns, threads: {threads} (tract: 1)")
print("| file | ours ms | tract ms | onnxruntime ms | ours to tract | ours to onnxruntime |")
print("|---|---:|---:|---:|---:|---:|")
for file in files:
    engines = [child("ours", file), child("tract", file), peer(file)]
    seconds = [[] for _ in engines]
    for turn in range(rounds + 1):
        for run, times in zip(engines, seconds):
            taken = run()
            # The first round warms caches and allocators.
            if turn:
                times.append(taken)
    ours, tract, other = (statistics.median(times) * 1e3 for times in seconds)
    print(f"| {file} | {ours:.1f} | {tract:.1f} | {other:.1f} | {ours / tract:.3f} | {ours / other:.3f} |", flush=True)
