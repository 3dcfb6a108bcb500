#!/usr/bin/env bash
# The whole test suite. Arguments go to pytest.
source "$(dirname "$0")/setup.sh"
.venv/bin/python -m pip install -q -e '.[test]'
exec .venv/bin/python -m pytest -n 2 "$@"
