# Sourced by the other scripts: changes to the repository's root and installs .venv as constraints.txt pins it.
# extras=... names what is installed: experiments by default; scripts/test.sh adds the development tools. A stamp file
# marks a complete environment, so that a second call costs nothing. PYTHON=... chooses the interpreter, 3.11 or later.
cd "$(dirname "${BASH_SOURCE[0]}")/.."

extras="${extras:-experiments}"
version="$(cat pyproject.toml constraints.txt scripts/setup.sh | cksum | cut -d " " -f 1)"
if [ ! -e ".venv/installed-$extras-$version" ]; then
    interpreter="${PYTHON:-python3}"
    version_of() { "$1" -c 'import sys; print(*sys.version_info[:2]); sys.exit(sys.version_info < (3, 11))' 2> /dev/null; }
    # An environment is kept as it is, unless it is of another Python than PYTHON names, too old, or without pip.
    if ! present="$(version_of .venv/bin/python)" || ! .venv/bin/python -m pip --version > /dev/null 2>&1 ||
        [ "$present" != "$(version_of "${PYTHON:-.venv/bin/python}")" ]; then
        if ! version_of "$interpreter" > /dev/null; then
            echo "error: $interpreter is not Python 3.11 or later; name another, as in PYTHON=python3.12 bash $0 $*" >&2
            exit 1
        fi
        if ! output="$("$interpreter" -m venv --clear .venv 2>&1)"; then
            echo "error: $interpreter makes no environment (${output//$'\n'/ }); install its module venv, or name another" \
                "Python, as in PYTHON=python3.12 bash $0 $*" >&2
            exit 1
        fi
    fi
    echo "installing .venv with $extras (1 to 3 minutes)"
    # Compiled afterwards, on all cores: pip uses one. Some packages carry files for other versions of Python.
    if ! .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile \
        -c constraints.txt -e ".[$extras]" > .venv/pip.log 2>&1; then
        reason="$(grep -o "ERROR: .*" .venv/pip.log | head -n 1)"
        echo "error: pip could not install (${reason:-no reason given}; all of it is in .venv/pip.log);" \
            "with a network, start the same command again" >&2
        exit 1
    fi
    .venv/bin/python -m compileall -q -j 0 .venv/lib > /dev/null 2>&1 || true
    for file in experiments/*.py experiments/*/__main__.py; do
        name="${file#experiments/}"
        name="${name%/__main__.py}"
        name="${name%.py}"
        [ "$name" = __init__ ] || ln -sf ../../scripts/layernorm ".venv/bin/layernorm-${name//_/-}"
    done
    # An environment with further extras serves the experiments too.
    touch ".venv/installed-experiments-$version" ".venv/installed-$extras-$version"
fi
python() { .venv/bin/python "$@"; }
