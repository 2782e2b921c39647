"""Many runs: the grid of an experiment, its plan, and the sweeper that launches the unfinished ones."""
