# Sourced by the commands of the README: system packages if they are missing, a virtual environment.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

apt_install() {
    (($#)) || return 0
    echo "installing $*"
    apt-get update -q && apt-get install -y -q "$@"
}

missing=()
command -v c++ >/dev/null || missing+=(g++)
"${PYTHON:-python3}" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv python3-dev)
apt_install "${missing[@]}"

[ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
