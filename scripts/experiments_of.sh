# Sourced by reproduce.sh, replicate.sh and tune.sh after setup.sh.
# experiments_of PROFILE: the names of the profile's experiments, one a line, in the order of the report.
experiments_of() {
    python -m experiments.report profile="$1" --cfg job --package profile.experiments | sed -n 's/^- //p'
}

# with_runs PROFILE: those that have runs, separated by commas. One with `sources` judges the rows of others.
with_runs() {
    local experiment names=""
    for experiment in $(experiments_of "$1"); do
        grep -q "^  sources:" "configs/experiment/$experiment.yaml" || names="$names,$experiment"
    done
    echo "${names#,}"
}
