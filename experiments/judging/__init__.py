"""From rows to verdicts: the claims by kind, intervals, the tuning rule, the integrity of the rows."""
