#!/usr/bin/env bash
# The main job: train, quantise and serve the MoE language model. Arguments go to the example (--help lists them).
source "$(dirname "$0")/setup.sh"
.venv/bin/python -m pip install -q '.[examples]'
exec .venv/bin/python -m examples.moe_lm "$@"
