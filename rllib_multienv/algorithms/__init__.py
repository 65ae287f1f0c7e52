"""The algorithms: configuration, algorithm and learner of each."""
