"""Many runs: the grid of an experiment, its plan, and how the unfinished ones are launched."""
