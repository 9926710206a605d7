"""Segmentation on real data, end to end: grey and white matter in slices of a brain.

Usage: brain_masks.py TOOL DEVICE BACKBONE OUT, where TOOL is edge-vit-tools and DEVICE edge-vit. Needs nilearn, numpy and Pillow.

The data come with PyPI's `nilearn`: the MNI ICBM152 2009a template, an average of 152 heads, with maps of how probable grey and
white matter are. OUT/slices holds its axial slices with a mask of four classes each: blocks of slices are parts, and between two blocks
lies a gap. Each method is trained, folded, and measured once on the test slices; the masks that DEVICE writes are compared with the truth
anew. Two lines tell how easy it is: thresholds on the grey value alone, and the truth's own shares, seen patch by patch. OUT/look.png shows
slices, truth and masks. OUT/results.jsonl holds a line for each run; a script that was stopped goes on behind the last of them.
"""

import json
import pathlib
import shutil
import sys

import numpy as np
from nilearn import datasets
from PIL import Image

from runs import Runs, best_epoch, run

LABELS = ["background", "fluid", "grey", "white"]
SIDE, PATCH = 224, 14
BUDGET = f"--image-size {SIDE} --epochs 12 --batch-size 8 --flip --device cpu --quiet".split()
# Flags, and the highest learning rate.
METHODS = {"linear": 1e-2, "repadapter": 2e-3}
# Millimetres from the volume's lowest slice, one slice each: a block and the gap behind it.
FIRST, LAST, BLOCK, GAP = 16, 144, 12, 4
PARTS = ["train", "val", "train", "test", "train", "test", "train", "val"]
# The part of a slice that holds the brain, in pixels: left, top, right, bottom.
CROP = (6, 24, 190, 208)

tool, device, backbone, out = map(pathlib.Path, sys.argv[1:5])
runs = Runs(out)
slices = out / "slices"


def prepare():
    """Writes pictures and masks; the folder appears when it is whole."""
    volumes = [
        load(resolution=1).get_fdata()
        for load in [datasets.load_mni152_template, datasets.load_mni152_gm_template, datasets.load_mni152_wm_template]
    ]
    picture, grey, white = volumes
    inside = picture > 0
    fluid = np.clip(1 - grey - white, 0, None)
    mask = np.where(inside, 1 + np.argmax([fluid, grey, white], axis=0), 0).astype(np.uint8)
    unfinished = out / "slices.part"
    shutil.rmtree(unfinished, ignore_errors=True)
    for start, part in zip(range(FIRST, LAST, BLOCK + GAP), PARTS, strict=True):
        for z in range(start, start + BLOCK):
            for kind, volume in [("images", (255 * picture).round().astype(np.uint8)), ("masks", mask)]:
                folder = unfinished / part / kind
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.rot90(volume[:, :, z])).crop(CROP).save(folder / f"{z:03}.png")
    (unfinished / "labels.txt").write_text("\n".join(LABELS) + "\n")
    unfinished.rename(slices)


def read(part):
    """Pictures and masks `[slices, height, width]`, in the order of their names."""
    files = sorted((slices / part / "images").iterdir())
    return tuple(np.stack([np.array(Image.open(folder / file.name)) for file in files]) for folder in
                 [slices / part / "images", slices / part / "masks"])


def overlap(truth, found):
    """IoU of each class, over all pixels together."""
    return [float(((truth == k) & (found == k)).sum() / ((truth == k) | (found == k)).sum()) for k in range(len(LABELS))]


def thresholds():
    """The class that is most frequent at each grey value in the training slices."""
    pictures, masks = read("train")
    counts = np.stack([np.bincount(pictures[masks == k], minlength=256) for k in range(len(LABELS))])
    pictures, truth = read("test")
    return overlap(truth, counts.argmax(axis=0)[pictures])


def patchwise():
    """The truth's share of each class in each patch, brought to the size of the mask bilinearly."""
    _, truth = read("test")
    height, width = truth.shape[1:]
    grid = SIDE // PATCH

    def shares(mask, k):
        share = Image.fromarray((mask == k).astype(np.float32)).resize((grid, grid), Image.BOX)
        return np.array(share.resize((width, height), Image.BILINEAR))

    found = np.stack([np.argmax([shares(mask, k) for k in range(len(LABELS))], axis=0) for mask in truth])
    return overlap(truth, found)


def train(method, lr):
    folder = out / method

    def make():
        arguments = ["--task", "segmentation", "--method", method, *BUDGET, "--lr", lr]
        _, seconds = run(tool, "train", "--backbone", backbone, "--data", slices, "--out", folder, *arguments)
        best = best_epoch(folder)
        return {"val": best["val_miou"], "epoch": best["epoch"], "seconds": seconds}

    runs.once(f"train {method}", make)


def test(method):
    folder, model = out / method, out / method / "model.onnx"

    def make():
        run(tool, "fold", "--backbone", backbone, "--adapters", folder / "adapters.safetensors", "--out", model)
        merged = json.loads(run(tool, "info", "--json", model)[0])
        figures = json.loads(run(tool, "eval", "--model", model, "--data", slices, "--json")[0])
        masks = folder / "masks"
        run(device, "--model", model, "--dir", slices / "test" / "images", "--mask-out", masks, "--json")
        _, truth = read("test")
        found = np.stack([np.array(Image.open(file)) for file in sorted(masks.iterdir())])
        return {
            "iou": [of["iou"] for of in figures["classes"]],
            "accuracy": figures["pixel_accuracy"],
            "device_iou": overlap(truth, found),
            "fold_error": merged["provenance"]["fold_error"],
        }

    return runs.once(f"test {method}", make)


def look(method):
    """A column for each of four test slices: the picture, the truth, the device's mask, and where the two differ."""
    colors = np.array([[0, 0, 0], [80, 100, 210], [210, 80, 80], [240, 235, 200]], np.uint8)
    pictures, truth = read("test")
    files = sorted((out / method / "masks").iterdir())
    columns = []
    for at in np.linspace(0, len(files) - 1, 4).round().astype(int):
        mask = np.array(Image.open(files[at]))
        picture = np.repeat(pictures[at][..., None], 3, axis=2)
        differs = np.where((mask != truth[at])[..., None], np.uint8([255, 220, 0]), picture // 2)
        columns.append(np.concatenate([picture, colors[truth[at]], colors[mask], differs]))
    Image.fromarray(np.concatenate(columns, axis=1)).save(out / "look.png", optimize=True)


if not slices.exists():
    prepare()
for method, lr in METHODS.items():
    train(method, lr)
    test(method)
look("repadapter")

counts = {part: len(read(part)[0]) for part in ["train", "val", "test"]}
print(f"{counts} slices, {SIDE} pixels")
print("| what | " + " | ".join(LABELS) + " | mean IoU | validation | s | fold error |")
print("|---|" + "---:|" * (len(LABELS) + 4))
references = {"thresholds on the grey value": thresholds(), "the truth, patch by patch": patchwise()}
for name, iou in references.items():
    print(f"| {name} | {' | '.join(f'{of:.3f}' for of in iou)} | {np.mean(iou):.3f} | | | |")
for method in METHODS:
    trained, tested = runs.done[f"train {method}"], runs.done[f"test {method}"]
    off = max(abs(a - b) for a, b in zip(tested["iou"], tested["device_iou"], strict=True))
    cells = " | ".join(f"{of:.3f}" for of in tested["iou"])
    print(f"| {method} | {cells} | {np.mean(tested['iou']):.3f} | {trained['val']:.3f} | {trained['seconds']:.0f} | {tested['fold_error']:.1e} |")
    print(f"masks that the device wrote, {method}: IoU off by at most {off:.1e}", file=sys.stderr)
