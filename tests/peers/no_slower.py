"""Measures the program on this machine, and compares with what was recorded on a machine of the same kind.

Usage: no_slower.py PROGRAM BOARD_MODELS [--record], where PROGRAM is a release build of `edge-vit` and BOARD_MODELS the example of that name.

`edge-vit bench` times a JPEG of 1280x720 through two backbones at 224 pixels, in float32 and in eight bits, on one thread and on all cores.
Prints a table of medians, and ends with 1 if a stage became slower by more than a fifth. recorded/ beside this script holds a file for each
kind of machine; --record writes it. A kind of machine without a file is measured and compared with nothing. Nothing else should run
meanwhile; where others share the machine, ask a second time before you believe that something became slower.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

# A stage of two milliseconds moves by a tenth from run to run.
FACTOR = 1.2
BACKBONES = ["vit_small_patch14_dinov2", "vit_tiny_patch16_224"]

*programs, flag = [*sys.argv[1:], None] if sys.argv[-1] != "--record" else sys.argv[1:]
if len(programs) != 2:
    sys.exit(__doc__)
program, board_models = (pathlib.Path(path).resolve() for path in programs)


def bench(model, threads, earlier):
    """What the program says of itself, compared with `earlier` where there is that."""
    command = [program, "bench", "--model", model.name, "--threads", str(threads), "--json"]
    if earlier:
        model.with_suffix(".json").write_text(json.dumps(earlier))
        command += ["--compare", model.with_suffix(".json").name, "--factor", str(FACTOR)]
    # A path of this machine has no place in the record.
    ran = subprocess.run(command, cwd=model.parent, capture_output=True, text=True)
    if not ran.stdout:
        sys.exit(ran.stderr)
    return json.loads(ran.stdout)


def kind_of(report):
    machine = report["machine"]
    words = [machine["processor"] or "", machine["architecture"], f"{machine['cores']} cores", *report["kernels"]]
    return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")


with tempfile.TemporaryDirectory() as folder:
    folder, runs = pathlib.Path(folder), []
    for backbone in BACKBONES:
        subprocess.run([board_models, folder, "3", backbone, "224"], check=True)
        for precision, file in [("float32", "simplified.onnx"), ("int8", "int8.onnx")]:
            model = (folder / file).rename(folder / f"{backbone}.{precision}.onnx")
            runs += [(model, threads) for threads in sorted({1, os.cpu_count()})]
    path = pathlib.Path(__file__).parent / "recorded" / f"{kind_of(bench(*runs[0], None))}.jsonl"
    lines = map(json.loads, path.read_text().splitlines()) if path.exists() and flag is None else []
    recorded = {(line["model"]["name"], line["threads"]): line for line in lines}
    reports = [bench(model, threads, recorded.get((model.name, threads))) for model, threads in runs]

print("| model | threads | decode ms | prepare ms | model ms | whole ms | recorded ms | ratio | slower |")
print("|---|---:|---:|---:|---:|---:|---:|---:|---|")
for report in reports:
    name, threads = report["model"]["name"], report["threads"]
    times = [f"{report['stages'][stage]['p50_ms']:.1f}" for stage in ("decode", "prepare", "model", "whole")]
    compared, before = report.pop("compared", None), recorded.get((name, threads))
    of_before = ["", "", ""]
    if compared and before:
        whole = before["stages"]["whole"]["p50_ms"]
        of_before = [f"{whole:.1f}", f"{compared['ratios']['whole']:.3f}", ", ".join(compared["slower"])]
    print(f"| {name} | {threads} | {' | '.join(times + of_before)} |")
    report["slower"] = compared["slower"] if compared else []

slower = [report.pop("slower") for report in reports]
if flag:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(report) + "\n" for report in reports))
    print(f"recorded in {path.name}", file=sys.stderr)
elif not recorded:
    print(f"nothing is recorded of such a machine: there is no {path.name}", file=sys.stderr)
sys.exit(1 if any(slower) else 0)
