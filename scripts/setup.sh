# Sourced by the two commands of the README: system packages if they are missing, a virtual environment, this package in it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

need_apt=()
command -v c++ >/dev/null || need_apt+=(g++)
"${PYTHON:-python3}" -c 'import ensurepip, venv' 2>/dev/null || need_apt+=(python3-venv python3-dev)
if ((${#need_apt[@]})); then
    echo "installing ${need_apt[*]}"
    apt-get update -q && apt-get install -y -q "${need_apt[@]}"
fi

[ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
