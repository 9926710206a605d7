"""Times ONNX files in onnxruntime, in turns, on one thread.

Usage: interleaved.py ROUNDS FILE... The first file is what the others are compared with; `cargo bench -p edge-vit-tests
--bench merged -- 224 31 FOLDER` writes such files. Prints medians and their ratios.
"""

import sys

import onnxruntime

from turns import medians, session

rounds, files = int(sys.argv[1]), sys.argv[2:]
taken = medians([session(file) for file in files], rounds)
print(f"onnxruntime {onnxruntime.__version__}, {rounds} interleaved rounds")
for file, median in zip(files, taken):
    print(f"| {file} | {median * 1e3:.1f} | {median / taken[0]:.3f} |")
