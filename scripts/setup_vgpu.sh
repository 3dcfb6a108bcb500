# Sourced after setup.sh by the commands that run vgpu's tests: what these need beside the Python packages of .venv.

# LLVM 19 or later (gfx950 is unknown to older ones): the assembler and linker for the instruction tests, the compiler for AITER's HIP
# kernels.
newest_llvm() {
    local version
    for version in {29..19}; do
        if "$@" "$version"; then
            echo "$version"
            return
        fi
    done
}
llvm_installed() { command -v "llvm-mc-$1" && command -v "ld.lld-$1" && command -v "clang++-$1"; } >/dev/null
llvm_available() { apt-cache show "llvm-$1" "lld-$1" "clang-$1"; } >/dev/null 2>&1
if [ -z "$(newest_llvm llvm_installed)" ]; then
    if [ "$(id -u)" = 0 ]; then
        apt-get update -q
        version=$(newest_llvm llvm_available)
        apt_install "llvm-$version" "lld-$version" "clang-$version"
    else
        echo "no LLVM 19 or later: the instruction tests and those of HIP kernels will skip (apt-get install llvm-22 lld-22 clang-22)"
    fi
fi

# The ROCm build of JAX has an environment of its own: the other one stays that of a machine without a GPU. rocm_environment PACKAGES
# makes it, in one pass of the resolver with what else is to be there.
rocm_environment() {
    [ -x .venv/rocm/bin/python ] || "${PYTHON:-python3}" -m venv .venv/rocm
    local plugin
    plugin=$(.venv/rocm/bin/python -c 'import sys; print("0.10.2" if sys.version_info < (3, 12) else "0.12.0")')
    .venv/rocm/bin/python -m pip install -q "jax==$plugin" "jax-rocm7-plugin==$plugin" "jax-rocm7-pjrt==$plugin" ml_dtypes \
        flatbuffers pytest pytest-timeout hypothesis "$@"
}
export VGPU_JAX_PYTHON=$PWD/.venv/rocm/bin/python
