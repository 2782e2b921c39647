# Sourced by the other scripts: goes to the repository's root and makes .venv as constraints.txt pins it.
# A finished environment is recognised by a stamp and costs nothing. PYTHON=... chooses the interpreter (3.11 or later).
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stamp=".venv/installed-$(cat pyproject.toml constraints.txt | cksum | cut -d " " -f 1)"
if [ ! -e "$stamp" ]; then
    echo "setting up .venv (1 to 3 minutes, about 3 GB; more with CUDA builds of torch)"
    "${PYTHON:-python3}" -m venv .venv
    # Compiled afterwards, on all cores: pip takes one. Some packages carry files for other versions of Python.
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile \
        -c constraints.txt -e '.[experiments,dev]'
    .venv/bin/python -m compileall -q -j 0 .venv/lib > /dev/null 2>&1 || true
    touch "$stamp"
fi
python() { .venv/bin/python "$@"; }
