"""Results of runs: progress, learning curves, evaluations, reports. Needs neither Ray nor PyTorch."""
