#!/usr/bin/env bash
# The quick tier: what tells most of a change within minutes. Arguments replace the tests that run.
source "$(dirname "$0")/setup.sh"
if [ -z "${JAX_AITER_QUICK_PYTHON:-}" ]; then
    .venv/bin/python -m pip install -q -e '.[test]'
    JAX_AITER_QUICK_PYTHON=.venv/bin/python
fi
(($#)) || set -- tests/core/test_style.py tests/core/test_layers.py tests/core/test_imports_resolve.py tests/core/test_readme.py \
    tests/core/test_config.py tests/core/test_explain.py tests/plan/test_plan.py tests/plan/test_encode.py tests/norm/test_rms_norm.py \
    tests/project
exec "$JAX_AITER_QUICK_PYTHON" -m pytest -n 2 --dist worksteal --import-mode=importlib "$@"
