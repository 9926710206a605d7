"""Films, end to end: which of eight films a clip is cut from.

Usage: film_scenes.py TOOL DEVICE BACKBONE OUT FILM..., where TOOL is edge-vit-tools, DEVICE edge-vit and each FILM a class of its name.
Needs ffmpeg and Pillow.

Each film is cut into 20 clips of equal length: the first 11 are trained on, 3 choose the epoch, the last 4 are tested with, and between two parts
one clip is left out. The films of clips are the data set as they are. Each method is trained, folded, and measured once on the test
clips, by frames and by clips; then DEVICE watches each test clip as a film. OUT/look.png shows the end of each with what DEVICE
says. OUT/results.jsonl holds a line for each run; a script that was stopped goes on behind the last of them.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

from PIL import Image, ImageDraw

from runs import Runs, kept_epoch, run

BUDGET = "--image-size 56 --epochs 2 --batch-size 16 --device cpu --quiet".split()
# Flags, and the highest learning rate.
METHODS = {"linear": 1e-2, "repadapter": 2e-3}
PIECES = 20
PARTS = {"train": range(11), "val": range(12, 15), "test": range(16, 20)}
# As many as the tools take of a film.
FRAMES = 16

tool, device, backbone, out = map(pathlib.Path, sys.argv[1:5])
films = [pathlib.Path(film) for film in sys.argv[5:]]
runs = Runs(out)
clips = out / "clips"


def length(film):
    """Seconds."""
    words = "ffprobe -v error -select_streams v:0 -show_entries stream=duration -of csv=p=0".split()
    return float(subprocess.check_output([*words, film], text=True))


def prepare():
    """Cuts the films; the folder appears when it is whole."""
    unfinished = out / "clips.part"
    shutil.rmtree(unfinished, ignore_errors=True)
    for film in films:
        piece = length(film) / PIECES
        for part, numbers in PARTS.items():
            folder = unfinished / part / film.stem
            folder.mkdir(parents=True)
            for number in numbers:
                cut = ["-ss", f"{number * piece:.4f}", "-i", film, "-t", f"{piece:.4f}", "-an"]
                encode = "-c:v libx264 -crf 16 -pix_fmt yuv420p".split()
                subprocess.run(["ffmpeg", "-v", "error", *cut, *encode, folder / f"{number:02}.mp4"], check=True)
    unfinished.rename(clips)


def train(method, lr):
    folder = out / method

    def make():
        arguments = ["--method", method, *BUDGET, "--lr", lr]
        _, seconds = run(tool, "train", "--backbone", backbone, "--data", clips, "--out", folder, *arguments)
        kept = kept_epoch(folder)
        return {"val": kept["val_top1"], "epoch": kept["epoch"], "seconds": seconds}

    runs.once(f"train {method}", make)


def watch(model, film):
    """What the device says at the film's end, and what it calls the most probable class."""
    lines, _ = run(device, "--model", model, "--video", film, "--clip", FRAMES, "--json")
    last = json.loads(lines.splitlines()[-1])
    return last["label"], last["top"][0]["label"]


def test(method):
    folder, model = out / method, out / method / "model.onnx"

    def make():
        run(tool, "fold", "--backbone", backbone, "--adapters", folder / "adapters.safetensors", "--out", model)
        merged = json.loads(run(tool, "info", "--json", model)[0])
        frames, of_clips = (
            json.loads(run(tool, "eval", "--model", model, "--data", clips, "--json", *flags)[0]) for flags in ([], ["--clip"])
        )
        said = {str(film.relative_to(clips / "test")): watch(model, film) for film in sorted(clips.glob("test/*/*.mp4"))}
        return {
            "frames": [frames["top1"]["correct"], frames["top1"]["of"]],
            "clips": [of_clips["top1"]["correct"], of_clips["top1"]["of"]],
            "mistakes": [mistake["path"] for mistake in of_clips["mistakes"]],
            "said": said,
            "fold_error": merged["provenance"]["fold_error"],
        }

    return runs.once(f"test {method}", make)


def look(said):
    """A row for each class, a picture for each of its test clips: the last frame, and what the device says of the clip."""
    names = sorted(said)
    classes = sorted({name.split("/")[0] for name in names})
    width, height, line = 160, 120, 14
    columns = len(names) // len(classes)
    sheet = Image.new("RGB", (columns * width, len(classes) * (height + line)))
    draw = ImageDraw.Draw(sheet)
    with tempfile.TemporaryDirectory() as folder:
        for at, name in enumerate(names):
            x, y = at % columns * width, at // columns * (height + line)
            picture = pathlib.Path(folder) / "frame.png"
            film = clips / "test" / name
            subprocess.run(["ffmpeg", "-v", "error", "-y", "-i", film, "-update", "1", picture], check=True)
            sheet.paste(Image.open(picture).resize((width, height)), (x, y))
            right = said[name][1] == name.split("/")[0]
            draw.text((x + 2, y + height + 1), said[name][0], fill=(120, 255, 120) if right else (255, 120, 120))
    sheet.save(out / "look.png", optimize=True)


def counted(right, of):
    return f"{right} of {of}"


if not clips.exists():
    prepare()
for method, lr in METHODS.items():
    train(method, lr)
    test(method)
look(runs.done["test repadapter"]["said"])

print("| method | validation frames | test frames | test clips | the device, to the clip's end | of these said to be unknown | s | fold error |")
print("|---|---:|---:|---:|---:|---:|---:|---:|")
for method in METHODS:
    trained, tested = runs.done[f"train {method}"], runs.done[f"test {method}"]
    said = tested["said"]
    right = sum(best == name.split("/")[0] for name, (_, best) in said.items())
    unknown = sum(label == "unknown" for label, _ in said.values())
    cells = [counted(*tested["frames"]), counted(*tested["clips"]), counted(right, len(said)), unknown]
    print(f"| {method} | {100 * trained['val']:.1f} % | {' | '.join(map(str, cells))} | {trained['seconds']:.0f} | {tested['fold_error']:.1e} |")
    print(f"mistakes of {method}: {tested['mistakes']}", file=sys.stderr)
