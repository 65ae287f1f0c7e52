"""Makes docs/metrics.md from the glossary in rllib_multienv/metrics.py: `python docs/make_metrics.py`."""

from pathlib import Path

from rllib_multienv.metrics import GLOSSARY

INTRODUCTION = """# Metrics

The keys of a result (`algo.train()`), of a row of `progress.csv` and of TensorBoard, with `/` between their parts.
`ENV` and `OTHER` stand for env ids. What is under `env_runners/` is also under `evaluation/env_runners/`, in
iterations with an evaluation. Made by `python docs/make_metrics.py` from `rllib_multienv/metrics.py`.
"""


def page() -> str:
    """The page."""
    parts = [INTRODUCTION]
    for section, metrics in GLOSSARY.items():
        rows = "\n".join(f"| `{key}` | {meaning} |" for key, meaning in metrics.items())
        parts.append(f"## {section}\n\n| key | meaning |\n|---|---|\n{rows}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    Path(__file__).with_name("metrics.md").write_text(page())
