"""Results of agents and runs: episodes, adaptation, progress, learning curves, reports. Needs no Ray."""
