#!/usr/bin/env bash
# What has to be shown on real GPUs, in three parts of at most ten minutes each, from the repository's root:
#
#     bash benchmarks/h200/prove.sh tests      two GPUs: the test suites on kernels, oracles, example; device time against torch's
#     bash benchmarks/h200/prove.sh timings    one GPU, nothing beside it: tuning, the table against references, host overhead
#     bash benchmarks/h200/prove.sh tables     one GPU, nothing beside it: every op against the best of JAX, a model's steps; with the
#                                              tuning file that JAX_AITER_TUNE names, if any
#
# JAX_AITER_CACHE is the folder that benchmarks.h200.pack filled (default: .h200); logs and results go to $OUT (default: out).
# Needs jax with CUDA, torch, triton 3.6 or 3.7, a C and a C++ compiler, and the packages of the extra "test".
set -u
out=$(realpath -m "${OUT:-out}")
mkdir -p "$out"
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} JAX_AITER_CACHE=${JAX_AITER_CACHE:-$PWD/.h200} PYTHONUNBUFFERED=1
export XLA_PYTHON_CLIENT_PREALLOCATE=false
jobs=$(($(nproc) > 16 ? 12 : 8))
begin=$SECONDS
failed=()

step() { # step NAME SECONDS COMMAND...: runs it with a time limit, its output in $out/NAME.log, its end on the terminal
  local name=$1 limit=$2 start=$SECONDS status
  shift 2
  timeout -k 10 "$limit" "$@" >"$out/$name.log" 2>&1
  status=$?
  echo "== $name: status $status, $((SECONDS - start)) s, at $((SECONDS - begin)) s"
  tail -n "${SHOW:-4}" "$out/$name.log"
  [ $status -eq 0 ] || echo "$name" >>"$out/failed"
}

on() { # on GPU NAME SECONDS COMMAND...: the same on one GPU
  local gpu=$1
  shift
  CUDA_VISIBLE_DEVICES=$gpu step "$@"
}

native() {
  step build 240 bash -c 'python3 -m pip install -q --no-build-isolation --no-deps --no-index --target /tmp/jax_aiter-built . &&
    cp /tmp/jax_aiter-built/jax_aiter/_ffi*.so jax_aiter/'
}

setup() {
  step prebuild 240 python3 -m benchmarks.h200.prebuild --jobs "$jobs" &
  native &
  wait
}

tests() {
  local pytest="python3 -m pytest -q -p no:cacheprovider -p no:benchmark"
  SHOW=8 step two_devices 150 $pytest tests/gpu/test_two_devices.py -n 6
  (
    SHOW=12 on 1 device_time 330 python3 -m benchmarks.h200.device_time --out "$out"
  ) &
  (
    SHOW=8 on 0 gpu 330 $pytest tests/gpu tests/plan/test_device.py -n 5
  ) &
  (
    SHOW=12 on 0 transforms 400 $pytest tests/transforms --implementation triton -n 12
  ) &
  (
    on 0 check 300 python3 -m benchmarks.h200.run --check --through op --out "$out/check"
    SHOW=12 on 0 example 200 python3 -m examples.moe_lm --steps 300 --out "$out/example"
  ) &
  wait
}

timings() {
  # Tuning and the table compile the same programs: the second finds what the first left.
  export JAX_COMPILATION_CACHE_DIR=/tmp/jax_aiter-xla JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0
  step shapes 60 python3 -m benchmarks.h200.tune_shapes "$out/shapes.json"
  SHOW=60 step tune 200 python3 -c 'from jax_aiter.cli import main; main()' tune --no-tiles --shapes "$out/shapes.json" --out "$out/tune.json"
  SHOW=60 step bench 300 python3 -m benchmarks.h200.run --bench --tuned "$out/tune.json" --out "$out"
  SHOW=8 step host 60 python3 -m benchmarks.host_overhead
}

tables() {
  export JAX_COMPILATION_CACHE_DIR=/tmp/jax_aiter-xla JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0
  step peers_build 150 python3 -m benchmarks.peers --build --jobs "$jobs"
  step model_build 100 python3 -m benchmarks.model_step --build
  step peers_compile 240 python3 -m benchmarks.peers --compile --threads "$jobs"
  step model_compile 150 python3 -m benchmarks.model_step --compile --threads "$jobs"
  SHOW=60 step peers 240 python3 -m benchmarks.peers --threads "$jobs" --out "$out"
  SHOW=30 step model_step 120 python3 -m benchmarks.model_step --threads "$jobs" --out "$out"
}

rm -f "$out/failed"
case "${1:-}" in
tests | timings) setup && "$1" ;;
tables) native && tables ;;
*) echo "usage: $0 tests|timings|tables" >&2 && exit 2 ;;
esac
if [ -s "$out/failed" ]; then
  echo "FAILED: $(tr '\n' ' ' <"$out/failed")"
  exit 1
fi
echo "all steps passed in $((SECONDS - begin)) s"
