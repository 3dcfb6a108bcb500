#!/usr/bin/env bash
# The tests of vgpu, the virtual MI300X, in an environment of their own: the ROCm build of JAX sees its device only there.
# Instruction tests need LLVM's AMDGPU assembler and tinygrad's copy of AMD's pseudo-code, and skip without them.
source "$(dirname "$0")/setup.sh"
[ -x .venv-vgpu/bin/python ] || "${PYTHON:-python3}" -m venv .venv-vgpu
plugin=$(.venv-vgpu/bin/python -c 'import sys; print("0.10.2" if sys.version_info < (3, 12) else "0.12.0")')
.venv-vgpu/bin/python -m pip install -q './vgpu[test]' "jax==$plugin" "jax-rocm7-plugin==$plugin" "jax-rocm7-pjrt==$plugin" pytest-xdist
cd vgpu
exec ../.venv-vgpu/bin/python -m pytest "${@:-tests}" -q
