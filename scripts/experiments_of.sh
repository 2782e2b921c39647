# Sourced by reproduce.sh and tune.sh after setup.sh.
# experiments_of PROFILE: the names of the profile's experiments, one a line, in the order of the report.
experiments_of() {
    python -m experiments.report profile="$1" --cfg job --package profile.experiments | sed -n 's/^- //p'
}
