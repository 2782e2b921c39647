"""The command line: Hydra composes, mistakes end in one line, --help and Tab explain."""
