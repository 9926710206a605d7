"""How much of each kernel's arithmetic is done in vectors: see `vectors`.

Usage: vectors.py SYMBOLIZER PROGRAM LISTING NAME.two..., where LISTING is what objdump -d prints of PROGRAM, and NAME.two and
NAME.one are what blocks.c wrote of runs of it on two pictures and on one.
"""

import bisect
import collections
import pathlib
import re
import subprocess
import sys

KERNELS = "runtime/src/kernels/"
LINE = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$")
VECTOR = re.compile(r"\bv\d+\.(16b|8b|8h|4h|4s|2s|2d)")
SCALAR = re.compile(r"\b[sdh]\d+\b")
# Sums, products, quotients, roots and comparisons; not moves, conversions of layout, loads and stores.
FLOATS = re.compile(r"f(n?m(add|sub)|ml[as]|add|sub|mul|div|sqrt|max|min|maxnm|minnm|recp[es]|rsqrt[es]|rint[a-z]|cm[a-z]{2})p?")
PRODUCTS = re.compile(r"[su]dot|[su]?(ml[as]l?|mull?)2?|[su]a(ddlp|dalp)")


def arithmetic(mnemonic, operands):
    """"vector", "scalar", or None for what is no arithmetic on floats and no product of integers in vectors."""
    if VECTOR.search(operands):
        return "vector" if FLOATS.fullmatch(mnemonic) or PRODUCTS.fullmatch(mnemonic) else None
    return "scalar" if FLOATS.fullmatch(mnemonic) and SCALAR.search(operands) else None


def listed(path):
    """Addresses in order, and the instruction of each."""
    found = {}
    for line in open(path):
        match = LINE.match(line)
        if match:
            found[int(match[1], 16)] = (match[2].split(".")[0], match[3].split("//")[0])
    return sorted(found), found


def kernels(symbolizer, program, addresses):
    """For each address, the file of the kernels that it was written in, or None."""
    asked = "".join(f"0x{address:x}\n" for address in addresses)
    command = [symbolizer, f"--obj={program}", "--inlines", "--functions=none"]
    told = subprocess.run(command, input=asked, capture_output=True, text=True, check=True).stdout
    for lines in told.strip("\n").split("\n\n"):
        within = (line.split(KERNELS)[1] for line in lines.splitlines() if KERNELS in line)
        yield next((place.split(":")[0] for place in within), None)


def text_start(program):
    """The address of the segment with the instructions, from which the plugin counts."""
    headers = subprocess.run(["readelf", "--segments", "--wide", program], capture_output=True, text=True, check=True).stdout
    return next(int(line.split()[2], 16) for line in headers.splitlines() if "LOAD" in line and " R E " in line)


def executed(path):
    """How often each instruction ran, by its address."""
    times = collections.Counter()
    for line in open(path):
        address, count, runs = map(int, line.split())
        at = bisect.bisect_left(order, start + address)
        for place in order[at : at + count]:
            times[place] += runs
    return times


symbolizer, program, listing, *runs = sys.argv[1:]
order, instructions = listed(listing)
start = text_start(program)
print("| run | kernel | million instructions | arithmetic among them | in vectors |")
print("|---|---|---:|---:|---:|")
failed = []
for run in map(pathlib.Path, runs):
    times = executed(run)
    times.subtract(executed(run.with_suffix(".one")))
    addresses = sorted(place for place in times if times[place] > 0)
    sums = collections.defaultdict(collections.Counter)
    for address, kernel in zip(addresses, kernels(symbolizer, program, addresses)):
        if kernel:
            sums[kernel]["all"] += times[address]
            sums[kernel][arithmetic(*instructions[address])] += times[address]
    for kernel, counts in sorted(sums.items(), key=lambda item: -item[1]["all"]):
        done = counts["vector"] + counts["scalar"]
        # What only moves numbers has no arithmetic.
        if done:
            share = counts["vector"] / done
            print(f"| {run.stem} | {kernel} | {counts['all'] / 1e6:.2f} | {done / 1e6:.2f} | {share:.3f} |")
            if share < 0.9:
                failed.append(f"{kernel} in {run.stem}")
if failed:
    sys.exit(f"error: less than nine tenths of the arithmetic is in vectors: {', '.join(failed)}")
