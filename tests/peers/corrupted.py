"""Other domains on real pictures: a data set's test pictures, changed as cameras and light change them.

Usage: corrupted.py TOOL BACKBONE DATA OUT [ARGUMENT...], where TOOL is edge-vit-tools, DATA a data set with the folders train and test, and what
follows goes to `bench domain`. Needs numpy and Pillow.

Changes after the manner of ImageNet-C's (Hendrycks and Dietterich, arXiv 1903.12261), simpler than those, in a strength that a person sees and is
not misled by. OUT/pictures holds a folder of each, OUT/look.png some of them side by side, and OUT/domain what `bench domain` writes.
"""

import io
import pathlib
import shutil
import subprocess
import sys

import numpy as np
from PIL import Image, ImageFilter

tool, backbone, data, out = map(pathlib.Path, sys.argv[1:5])
generator = np.random.default_rng(0)


def mixed(picture, other, share):
    return Image.blend(picture, Image.new("RGB", picture.size, other), share)


def noisy(picture):
    values = np.asarray(picture, np.float32) + generator.normal(0, 20, (*picture.size[::-1], 3))
    return Image.fromarray(values.clip(0, 255).round().astype(np.uint8))


def compressed(picture):
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=15)
    return Image.open(file).convert("RGB")


CHANGES = {
    "grey": lambda picture: picture.convert("L").convert("RGB"),
    "blur": lambda picture: picture.filter(ImageFilter.GaussianBlur(min(picture.size) / 32)),
    "noise": noisy,
    "dark": lambda picture: mixed(picture, (0, 0, 0), 0.6),
    "fog": lambda picture: mixed(picture, (200, 200, 200), 0.6),
    "jpeg": compressed,
}


def prepare():
    """Writes the changed pictures; the folder appears when it is whole."""
    unfinished = out / "pictures.part"
    shutil.rmtree(unfinished, ignore_errors=True)
    shown = []
    for path in sorted((data / "test").glob("*/*")):
        with Image.open(path) as file:
            picture = file.convert("RGB")
        row = [picture]
        for name, change in CHANGES.items():
            to = unfinished / name / path.parent.name / f"{path.stem}.png"
            to.parent.mkdir(parents=True, exist_ok=True)
            row.append(change(picture))
            row[-1].save(to)
        if not shown or shown[-1][0] != path.parent.name:
            shown.append((path.parent.name, row))
    side = 96
    look = Image.new("RGB", (side * (1 + len(CHANGES)), side * len(shown)))
    for y, (_, row) in enumerate(shown):
        for x, picture in enumerate(row):
            look.paste(picture.resize((side, side)), (side * x, side * y))
    look.save(out / "look.png")
    unfinished.rename(out / "pictures")


out.mkdir(parents=True, exist_ok=True)
if not (out / "pictures").exists():
    prepare()
tests = [f"{name}={out / 'pictures' / name}" for name in CHANGES]
command = [tool, "bench", "domain", "--backbone", backbone, "--train", data, "--test", f"home={data}", *tests]
done = out / "domain" / "domain.json"
resume = ["--resume"] if done.exists() else []
sys.exit(subprocess.run([*command, "--out", done.parent, *resume, *sys.argv[5:]], check=False).returncode)
