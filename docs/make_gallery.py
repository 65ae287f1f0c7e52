"""Runs examples and draws what they print: `python docs/make_gallery.py [NAME...]` makes docs/gallery/NAME.png.

A program prints lines such as ``3 {"CartPole-v1": 21.5}`` (an iteration, and numbers by name), or writes a
picture. They take one or two minutes each on an idle core.
"""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from rllib_multienv.evaluation.learning_curves import add_legend, panels

DOCS = Path(__file__).parent
#: Arguments of each run of a program, by the label of its curve.
RUNS = {
    "custom_algorithm": {"": ["300"]},
    "custom_environment": {"": ["30"]},
    "custom_network": {"": ["40"]},
    "memory": {"gru": ["gru", "60"], "no memory": ["none", "60"]},
    "meta_learning": {"": ["150"]},
    "train_heterogeneous": {"": ["30"]},
}


def curves(text: str) -> dict[str, list[tuple[int, float]]]:
    """What a program has printed: (iteration, number) by name."""
    found = defaultdict(list)
    for line in text.splitlines():
        if match := re.fullmatch(r"(\d+) (\{.*\})", line):
            for key, value in ast.literal_eval(match[2].replace("nan", "None")).items():
                found[key] += [] if value is None else [(int(match[1]), value)]
    return found


def draw(name: str, folder: Path) -> Path:
    """Run a program in a folder, and return the picture there."""
    runs = {}
    for label, arguments in RUNS[name].items():
        command = [sys.executable, str(DOCS.parent / "examples" / f"{name}.py"), *arguments]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder)
        runs[label] = curves(done.stdout)
    if own := next(folder.glob("*.png"), None):
        return own
    titles = list(dict.fromkeys(key for found in runs.values() for key in found))
    figure, axes = panels(len(titles), (1.9, 1.5))
    for title, ax in zip(titles, axes, strict=True):
        for label, found in runs.items():
            ax.plot(*zip(*found[title], strict=True), linewidth=1.2, label=label)
        ax.set_title(title, fontsize=8)
        ax.set_xlabel("iteration", fontsize=7)
    if len(runs) > 1:
        add_legend(figure, axes)
    figure.savefig(folder / "curves.png", dpi=90)
    return folder / "curves.png"


def main(*names: str) -> None:
    """Make the pictures of these examples, or of all that have one."""
    for name in names or RUNS:
        path = DOCS / "gallery" / f"{name}.png"
        with TemporaryDirectory() as folder, Image.open(draw(name, Path(folder))) as picture:
            small = picture.convert("RGB")
            if small.height > 300:
                small = small.reduce(2)
            small.quantize(24).save(path, optimize=True)  # few colours: a third of the size
        print(f"{path}: {path.stat().st_size / 1e3:.0f} kB", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
