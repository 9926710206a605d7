"""What scripts share that run the tools for a long time: programs whose output is read, and a record of what is done."""

import json
import resource
import subprocess
import sys


def run(program, *arguments):
    """The program's output, and the processor's seconds that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ran = subprocess.run([str(program), *map(str, arguments)], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if ran.returncode:
        raise RuntimeError(f"{program} {arguments[0]}: {ran.stderr}")
    return ran.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


class Runs:
    """Results by their keys, a line each in `folder`/results.jsonl; what is there is not made again."""

    def __init__(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "results.jsonl"
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        self.done = {record["key"]: record for record in map(json.loads, lines)}

    def once(self, key, make):
        if key not in self.done:
            self.done[key] = {"key": key, **make()}
            with self.file.open("a") as file:
                file.write(json.dumps(self.done[key]) + "\n")
            print(self.done[key], file=sys.stderr, flush=True)
        return self.done[key]


def kept_epoch(folder):
    """What the log of a training tells of the epoch that was kept."""
    epochs = [record for record in map(json.loads, (folder / "log.jsonl").open()) if record["kind"] == "epoch"]
    return next(record for record in reversed(epochs) if record["kept"])
