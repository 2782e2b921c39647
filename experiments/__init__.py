"""The commands, a module or a package each; everything else stands in the package of its job.

A package imports only those below it: config < runs < cli < training < sweeps < judging < report < commands. Import
Linter holds them to it (pyproject.toml)."""
