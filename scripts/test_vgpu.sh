#!/usr/bin/env bash
# The tests of vgpu, the virtual MI300X, alone; scripts/test.sh runs them too. Arguments go to pytest: `-m exhaustive`
# runs the long sweeps.
source "$(dirname "$0")/setup.sh"
source scripts/setup_vgpu.sh
.venv/bin/python -m pip install -q './vgpu[test]' pytest-xdist
cd vgpu
exec ../.venv/bin/python -m pytest -n 2 "$@"
