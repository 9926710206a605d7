"""Times the program from a picture's file to its answer, in turns with what people write in Python: Pillow or OpenCV, numpy and onnxruntime.

Usage: end_to_end.py PROGRAM MODEL FOLDER THREADS ROUNDS, where PROGRAM is a release build of `edge-vit`, MODEL a file that
`edge-vit-tools fold` wrote, and FOLDER has JPEGs. Each program runs as one process for all pictures, and anew for one picture.
Prints medians and the ratios of ours to the others': milliseconds a picture, milliseconds from the start of a process to its first
answer, the most memory that it took. OpenCV takes part where its wheel is installed; it resizes without antialias, as its default
is, so that its answers are of other pixels.
"""

import importlib.util
import json
import pathlib
import statistics
import subprocess
import sys
import time

from turns import PAUSE_SECONDS


def peer(decoder, file, threads):
    """Answers each line of stdin, the path of a picture, with the index of its class."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0].name
    preprocessing = json.loads(session.get_modelmeta().custom_metadata_map["edge_vit.preprocessing"])
    height, width = preprocessing["image_size"]
    mean, std = (np.array(preprocessing[key], np.float32) for key in ["mean", "std"])

    if decoder == "pillow":
        from PIL import Image

        def read(path):
            return np.asarray(Image.open(path).convert("RGB").resize((width, height), Image.BICUBIC))
    else:
        import cv2

        cv2.setNumThreads(threads)

        def read(path):
            return cv2.resize(cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB), (width, height))

    for line in sys.stdin:
        values = (read(line.strip()).astype(np.float32) / 255 - mean) / std
        values = np.ascontiguousarray(values.transpose(2, 0, 1)[None])
        print(session.run(None, {source: values})[0][0].argmax(), flush=True)


class Process:
    """A program that answers picture after picture."""

    def __init__(self, command, write, answer):
        self.write, self.answer = write, answer
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, path):
        """The answer, and the seconds that it took."""
        start = time.perf_counter()
        self.process.stdin.write(self.write(path))
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        return self.answer(line), time.perf_counter() - start

    def end(self):
        """The most memory that it took, in MiB."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
        self.process.stdin.close()
        self.process.wait()
        return peak / 1024


def programs(program, file, threads):
    """The name of each, and a function that starts it."""
    ours = [program, "--model", file, "--threads", str(threads), "--stdin", "--format", "mjpeg", "--every-frame", "--json"]
    found = {"edge-vit": lambda: Process(ours, lambda path: path.read_bytes(), lambda line: json.loads(line)["top"][0]["label"])}
    labels = json.loads(subprocess.check_output([sys.executable, __file__, "--labels", file]))
    for decoder, module in [("pillow", "PIL"), ("opencv", "cv2")]:
        if importlib.util.find_spec(module):
            command = [sys.executable, __file__, "--peer", decoder, file, str(threads)]
            found[decoder] = lambda command=command: Process(
                command, lambda path: f"{path}\n".encode(), lambda line: labels[int(line)]
            )
    return found


def measure(program, file, folder, threads, rounds):
    pictures = sorted(path for path in pathlib.Path(folder).iterdir() if path.suffix.lower() in [".jpg", ".jpeg"])
    starts = programs(program, file, threads)
    first = {name: [] for name in starts}
    for turn in range(rounds // 3 + 2):
        for name, start in starts.items():
            begin = time.perf_counter()
            process = start()
            process.ask(pictures[0])
            # The first turn warms the caches of files.
            if turn:
                first[name].append(time.perf_counter() - begin)
            process.end()
    running = {name: start() for name, start in starts.items()}
    times, answers = ({name: [] for name in starts} for _ in range(2))
    for turn in range(rounds + 1):
        for picture in pictures:
            for name, process in running.items():
                time.sleep(PAUSE_SECONDS)
                answer, seconds = process.ask(picture)
                if turn:
                    times[name].append(seconds)
                    answers[name].append(answer)
    peaks = {name: process.end() for name, process in running.items()}

    print(f"{len(pictures)} pictures, {rounds} rounds in turns, {threads} threads")
    print("| program | ms a picture | ours to it | ms to the first answer | ours to it | MiB at most | ours to it | same answers |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    whole, begun = ({name: statistics.median(of[name]) * 1e3 for name in starts} for of in [times, first])
    for name in starts:
        same = statistics.mean(a == b for a, b in zip(answers[name], answers["edge-vit"]))
        cells = [f"{of[name]:.1f} | {of['edge-vit'] / of[name]:.3f}" for of in [whole, begun, peaks]]
        print(f"| {name} | {' | '.join(cells)} | {same:.3f} |")


match sys.argv[1:]:
    case ["--peer", decoder, file, threads]:
        peer(decoder, file, int(threads))
    case ["--labels", file]:
        import onnxruntime

        print(onnxruntime.InferenceSession(file).get_modelmeta().custom_metadata_map["edge_vit.labels"])
    case [program, file, folder, threads, rounds]:
        measure(program, file, folder, int(threads), int(rounds))
    case _:
        sys.exit(__doc__)
