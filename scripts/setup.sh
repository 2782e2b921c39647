# Sourced by the other scripts: changes to the repository's root and installs .venv as constraints.txt pins it.
# extras=... names what is installed: experiments by default; scripts/test.sh adds the development tools. A stamp file
# marks a complete environment, so that a second call costs nothing. PYTHON=... chooses the interpreter, 3.11 or later.
cd "$(dirname "${BASH_SOURCE[0]}")/.."

extras="${extras:-experiments}"
version="$(cat pyproject.toml constraints.txt scripts/setup.sh | cksum | cut -d " " -f 1)"
if [ ! -e ".venv/installed-$extras-$version" ]; then
    interpreter="${PYTHON:-python3}"
    if ! "$interpreter" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "error: $interpreter is not Python 3.11 or later; name another, as in PYTHON=python3.12 bash $0 $*" >&2
        exit 1
    fi
    clear=""
    if ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
        clear="--clear" # no environment yet, or one of a Python that is too old
    fi
    echo "installing .venv with $extras (1 to 3 minutes)"
    "$interpreter" -m venv $clear .venv
    # Compiled afterwards, on all cores: pip uses one. Some packages carry files for other versions of Python.
    if ! .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile \
        -c constraints.txt -e ".[$extras]"; then
        echo "error: pip could not install; with a network, start the same command again" >&2
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
