#!/usr/bin/env bash
# The training example: train, quantise and serve a byte-level MoE language model. Arguments go to it (--help lists them).
source "$(dirname "$0")/setup.sh"
.venv/bin/python -m pip install -q '.[examples]'
exec .venv/bin/python -m examples.moe_lm "$@"
