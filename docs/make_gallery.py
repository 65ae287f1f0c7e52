"""Runs examples and draws what they print: `python docs/make_gallery.py [NAME...]` makes docs/gallery/NAME.png.

A program prints lines such as ``3 {"CartPole-v1": 21.5}``: an iteration, and numbers by name. They take one or two
minutes each on an idle core.
"""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from PIL import Image

from rllib_multienv.evaluation.learning_curves import add_legend, panels

EXAMPLES = Path(__file__).parents[1] / "examples"
#: Arguments of each run of a program, by the label of its curve.
RUNS = {
    "custom_algorithm": {"": ["300"]},
    "custom_environment": {"": ["30"]},
    "custom_network": {"": ["40"]},
    "memory": {"gru": ["gru", "60"], "no memory": ["none", "60"]},
    "train_heterogeneous": {"": ["30"]},
}


def curves(name: str, arguments: list[str]) -> dict[str, list[tuple[int, float]]]:
    """What a program prints: (iteration, number) by name."""
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    found = defaultdict(list)
    for line in lines:
        if match := re.fullmatch(r"(\d+) (\{.*\})", line):
            for key, value in ast.literal_eval(match[2].replace("nan", "None")).items():
                found[key] += [] if value is None else [(int(match[1]), value)]
    return found


def main(*names: str) -> None:
    """Draw the pictures of these examples, or of all that have one."""
    for name in names or RUNS:
        runs = {label: curves(name, arguments) for label, arguments in RUNS[name].items()}
        titles = list(dict.fromkeys(key for found in runs.values() for key in found))
        figure, axes = panels(len(titles), (1.9, 1.5))
        for title, ax in zip(titles, axes, strict=True):
            for label, found in runs.items():
                ax.plot(*zip(*found[title], strict=True), linewidth=1.2, label=label)
            ax.set_title(title, fontsize=8)
            ax.set_xlabel("iteration", fontsize=7)
        if len(runs) > 1:
            add_legend(figure, axes)
        path = Path(__file__).with_name("gallery") / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        figure.savefig(path, dpi=90)
        with Image.open(path) as picture:  # few colours: a third of the size
            picture.convert("RGB").quantize(24).save(path, optimize=True)
        print(f"{path}: {path.stat().st_size / 1e3:.0f} kB", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
