"""Runs that take turns, and their medians; onnxruntime as one that runs."""

import statistics
import subprocess
import time

import numpy as np
import onnxruntime


def child(program, engine, threads, file):
    """A function that runs the file once in `engine` of the example `turns`, which is `program`, and gives the seconds."""
    command = [program, engine, str(threads), file]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run():
        process.stdin.write("\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    return run


def timed(run):
    """A function that runs `run`, and gives the seconds."""

    def seconds():
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    return seconds


def session(file, threads=1):
    """A function that runs the file once, on the picture that all get, and gives the seconds."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0]
    picture = np.random.default_rng(0).standard_normal(source.shape).astype(np.float32)
    return timed(lambda: session.run(None, {source.name: picture}))


# The threads of an engine go on asking for work for a while when a run has ended, on cores that the next engine needs.
PAUSE_SECONDS = 0.1


def medians(runs, rounds):
    """The median of each run's seconds over rounds in which all of them run once."""
    seconds = [[] for _ in runs]
    for turn in range(rounds + 1):
        for run, times in zip(runs, seconds):
            time.sleep(PAUSE_SECONDS)
            taken = run()
            # The first round warms caches and allocators.
            if turn:
                times.append(taken)
    return [statistics.median(times) for times in seconds]
