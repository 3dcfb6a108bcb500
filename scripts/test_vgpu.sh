#!/usr/bin/env bash
# The tests of vgpu, the virtual MI300X, alone; scripts/test.sh runs them too. Arguments go to pytest: `-m exhaustive`
# runs the long sweeps.
source "$(dirname "$0")/setup.sh"
source scripts/setup_vgpu.sh
rocm_environment
.venv/bin/python -m pip install -q './vgpu[test]' jax pytest-xdist
# From here, not from vgpu/: there Python would find the package's sources before the installed package with its libraries.
exec .venv/bin/python -m pytest -n 2 -c vgpu/pyproject.toml --rootdir=vgpu vgpu/tests "$@"
