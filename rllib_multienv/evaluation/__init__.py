"""What comes out of a run: progress, learning curves, evaluation tables. Needs neither Ray nor PyTorch."""
