# Sourced by the other scripts: goes to the repository's root and makes .venv as constraints.txt pins it.
# A finished environment is recognised by a stamp and costs nothing. PYTHON=... chooses the interpreter (3.11 or later).
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stamp=".venv/installed-$(cat pyproject.toml constraints.txt | cksum | cut -d " " -f 1)"
if [ ! -e "$stamp" ]; then
    echo "setting up .venv (1 to 3 minutes, about 2 GB; more with CUDA builds of torch)"
    "${PYTHON:-python3}" -m venv .venv
    # Python compiles what it imports, the first time; all that is installed takes pip as long as the rest of its work.
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile \
        -c constraints.txt -e '.[experiments,dev]'
    touch "$stamp"
fi
python() { .venv/bin/python "$@"; }
