"""Segmentation on real data, end to end: grey and white matter in slices of a brain.

Usage: brain_masks.py TOOL DEVICE BACKBONE OUT, where TOOL is edge-vit-tools and DEVICE edge-vit. Needs nilearn, numpy and Pillow.

The data come with PyPI's `nilearn`: the MNI ICBM152 2009a template, an average of 152 heads, with maps of how probable grey and
white matter are. OUT/tiles holds ninths of its axial slices with a mask of four classes each: blocks of slices are parts, and between two
blocks lies a gap. Each method is trained, folded, and measured once on the test tiles; the masks that DEVICE writes are compared with the
truth anew. Other lines tell how easy it is: the most frequent class of each grey value, and the truth's own shares, seen patch by patch,
or by squares that are finer.
OUT/look.png shows slices, truth and masks. OUT/results.jsonl holds a line for each run; a script that was stopped goes on behind the last of them.
"""

import json
import pathlib
import shutil
import sys

import numpy as np
from nilearn import datasets
from PIL import Image

from runs import Runs, kept_epoch, run

LABELS = ["background", "fluid", "grey", "white"]
SIDE, PATCH = 168, 14
BUDGET = f"--image-size {SIDE} --epochs 5 --batch-size 8 --device cpu --quiet".split()
# The method, the highest learning rate, and how many times finer than patches the masks are.
TRAINED = {
    "linear": ("linear", 1e-2, 1),
    "repadapter": ("repadapter", 2e-3, 1),
    "repadapter, 2 times finer": ("repadapter", 2e-3, 2),
    "repadapter, 4 times finer": ("repadapter", 2e-3, 4),
}
# Millimetres above the volume's lowest slice: a block with a slice every STEP, and the gap behind it.
FIRST, LAST, BLOCK, GAP, STEP = 16, 144, 12, 4, 2
PARTS = ["train", "val", "train", "test", "train", "test", "train", "val"]
# The part of a slice that holds the brain, cut into ACROSS x ACROSS tiles of TILE pixels: left and top.
LEFT, TOP, ACROSS, TILE = 6, 24, 3, 61

tool, device, backbone, out = map(pathlib.Path, sys.argv[1:5])
runs = Runs(out)
tiles = out / "tiles"


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
    unfinished = out / "tiles.part"
    shutil.rmtree(unfinished, ignore_errors=True)
    for start, part in zip(range(FIRST, LAST, BLOCK + GAP), PARTS, strict=True):
        for kind, volume in [("images", (255 * picture).round().astype(np.uint8)), ("masks", mask)]:
            folder = unfinished / part / kind
            folder.mkdir(parents=True, exist_ok=True)
            for z in range(start, start + BLOCK, STEP):
                slice = np.rot90(volume[:, :, z])[TOP:, LEFT:]
                for row, column in np.ndindex(ACROSS, ACROSS):
                    tile = slice[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
                    Image.fromarray(tile).save(folder / f"{z:03}-{row}{column}.png")
    (unfinished / "labels.txt").write_text("\n".join(LABELS) + "\n")
    unfinished.rename(tiles)


def read(part):
    """Pictures and masks `[tiles, height, width]`, in the order of their names."""
    return tuple(stacked(tiles / part / kind) for kind in ["images", "masks"])


def stacked(folder):
    return np.stack([np.array(Image.open(file)) for file in sorted(folder.iterdir())])


def overlap(truth, found):
    """IoU of each class, over all pixels together."""
    return [float(((truth == k) & (found == k)).sum() / ((truth == k) | (found == k)).sum()) for k in range(len(LABELS))]


def by_value():
    """The class that is most frequent at each grey value in the training tiles."""
    pictures, masks = read("train")
    counts = np.stack([np.bincount(pictures[masks == k], minlength=256) for k in range(len(LABELS))])
    pictures, truth = read("test")
    return overlap(truth, counts.argmax(axis=0)[pictures])


def patchwise(scale):
    """The truth's share of each class in each patch, or finer square, brought to the size of the mask bilinearly."""
    _, truth = read("test")
    height, width = truth.shape[1:]
    grid = SIDE // PATCH * scale

    def shares(mask, k):
        share = Image.fromarray((mask == k).astype(np.float32)).resize((grid, grid), Image.BOX)
        return np.array(share.resize((width, height), Image.BILINEAR))

    found = np.stack([np.argmax([shares(mask, k) for k in range(len(LABELS))], axis=0) for mask in truth])
    return overlap(truth, found)


def train(name):
    folder, (method, lr, scale) = out / name, TRAINED[name]

    def make():
        arguments = ["--task", "segmentation", "--method", method, *BUDGET, "--lr", lr, "--mask-scale", scale]
        _, seconds = run(tool, "train", "--backbone", backbone, "--data", tiles, "--out", folder, *arguments)
        kept = kept_epoch(folder)
        return {"val": kept["val_miou"], "epoch": kept["epoch"], "seconds": seconds}

    runs.once(f"train {name}", make)


def test(name):
    folder, model = out / name, out / name / "model.onnx"

    def make():
        run(tool, "fold", "--backbone", backbone, "--adapters", folder / "adapters.safetensors", "--out", model)
        merged = json.loads(run(tool, "info", "--json", model)[0])
        figures = json.loads(run(tool, "eval", "--model", model, "--data", tiles, "--json")[0])
        masks = folder / "masks"
        run(device, "--model", model, "--dir", tiles / "test" / "images", "--mask-out", masks, "--json")
        return {
            "iou": [of["iou"] for of in figures["classes"]],
            "accuracy": figures["pixel_accuracy"],
            "device_iou": overlap(read("test")[1], stacked(masks)),
            "fold_error": merged["provenance"]["fold_error"],
        }

    return runs.once(f"test {name}", make)


def whole(tiled):
    """Tiles in the order of their names become slices `[slices, height, width]`."""
    slices = tiled.reshape(-1, ACROSS, ACROSS, TILE, TILE).transpose(0, 1, 3, 2, 4)
    return slices.reshape(-1, ACROSS * TILE, ACROSS * TILE)


def look(name):
    """A column for each of four test slices: the picture, the truth, the device's mask, and where the two differ."""
    colors = np.array([[0, 0, 0], [80, 100, 210], [210, 80, 80], [240, 235, 200]], np.uint8)
    pictures, truth, masks = map(whole, [*read("test"), stacked(out / name / "masks")])
    columns = []
    for at in np.linspace(0, len(masks) - 1, 4).round().astype(int):
        picture = np.repeat(pictures[at][..., None], 3, axis=2)
        differs = np.where((masks[at] != truth[at])[..., None], np.uint8([255, 220, 0]), picture // 2)
        columns.append(np.concatenate([picture, colors[truth[at]], colors[masks[at]], differs]))
    Image.fromarray(np.concatenate(columns, axis=1)).save(out / "look.png", optimize=True)


if not tiles.exists():
    prepare()
for name in TRAINED:
    train(name)
    test(name)
look("repadapter, 4 times finer")

counts = {part: len(read(part)[0]) for part in ["train", "val", "test"]}
print(f"{counts} tiles, {SIDE} pixels")
print("| what | " + " | ".join(LABELS) + " | mean IoU | validation | s | fold error |")
print("|---|" + "---:|" * (len(LABELS) + 4))
references = {"the grey value alone": by_value(), "the truth, patch by patch": patchwise(1)}
references |= {f"the truth, {scale} times finer": patchwise(scale) for scale in (2, 4)}
for name, iou in references.items():
    print(f"| {name} | {' | '.join(f'{of:.3f}' for of in iou)} | {np.mean(iou):.3f} | | | |")
for name in TRAINED:
    trained, tested = runs.done[f"train {name}"], runs.done[f"test {name}"]
    off = max(abs(a - b) for a, b in zip(tested["iou"], tested["device_iou"], strict=True))
    cells = " | ".join(f"{of:.3f}" for of in tested["iou"])
    print(f"| {name} | {cells} | {np.mean(tested['iou']):.3f} | {trained['val']:.3f} | {trained['seconds']:.0f} | {tested['fold_error']:.1e} |")
    print(f"masks that the device wrote, {name}: IoU off by at most {off:.1e}", file=sys.stderr)
