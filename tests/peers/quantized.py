"""Times a float32 file and the same with quantised weights in our runtime and in onnxruntime, which take turns.

Usage: quantized.py PROGRAM THREADS ROUNDS FLOAT32 INT8, where PROGRAM is what `cargo build --release -p edge-vit-tests --example turns` makes. Without the last file it is written beside the
first, by onnxruntime's `quantize_dynamic`. Prints medians in milliseconds, and the ratios of ours.
"""

import sys
from pathlib import Path

import onnxruntime

from turns import child, medians, session

program, threads, rounds, exact = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
if len(sys.argv) > 5:
    quantized = sys.argv[5]
else:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantized = str(Path(exact).with_suffix(".int8.onnx"))
    quantize_dynamic(
        exact, quantized, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul"]
    )

files = (exact, quantized)
engines = [child(program, "ours", threads, file) for file in files] + [session(file, threads) for file in files]
ours, ours_int8, other, other_int8 = (seconds * 1e3 for seconds in medians(engines, rounds))
print(f"onnxruntime {onnxruntime.__version__}, {rounds} rounds in turns, threads: {threads}")
print("| ours float32 ms | ours int8 ms | onnxruntime float32 ms | onnxruntime int8 ms | int8 to float32 | int8 to onnxruntime's |")
print("|---:|---:|---:|---:|---:|---:|")
ratios = f"{ours_int8 / ours:.3f} | {ours_int8 / other_int8:.3f}"
print(f"| {ours:.1f} | {ours_int8:.1f} | {other:.1f} | {other_int8:.1f} | {ratios} |")
