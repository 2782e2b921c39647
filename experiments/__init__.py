"""The commands, a module or a package each; everything else lives in the room of its job.

A room imports only rooms below it: config < runs < cli < training < sweeps < judging < report < commands. Import Linter
holds them to it (pyproject.toml)."""
