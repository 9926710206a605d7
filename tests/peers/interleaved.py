"""Times ONNX files in onnxruntime, in turns, on one thread.

Usage: interleaved.py ROUNDS FILE... The first file is what the others are compared with; `cargo bench -p edge-vit-tests
--bench merged -- 224 31 FOLDER` writes such files. Prints medians and their ratios.
"""

import statistics
import sys
import time

import numpy as np
import onnxruntime

rounds, files = int(sys.argv[1]), sys.argv[2:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
sessions = [onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"]) for file in files]
source = sessions[0].get_inputs()[0]
picture = np.random.default_rng(0).standard_normal(source.shape).astype(np.float32)
seconds = [[] for _ in files]
for turn in range(rounds + 1):
    for session, times in zip(sessions, seconds):
        start = time.perf_counter()
        session.run(None, {source.name: picture})
        # The first round warms caches and allocators.
        if turn:
            times.append(time.perf_counter() - start)
medians = [statistics.median(times) for times in seconds]
print(f"onnxruntime {onnxruntime.__version__}, {rounds} interleaved rounds")
for file, median in zip(files, medians):
    print(f"| {file} | {median * 1e3:.1f} | {median / medians[0]:.3f} |")
