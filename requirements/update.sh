#!/usr/bin/env bash
# Pin what the groups of pyproject.toml need, for every Python and platform, with the hashes of every
# file of each release: needs uv and an index. Look at the difference before you commit it.
set -euo pipefail
cd "$(dirname "$0")/.."
lock() {  # NAME ARGUMENTS
  uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-annotate \
    --upgrade --no-emit-package triton --custom-compile-command requirements/update.sh \
    --output-file "requirements/$1.txt" "${@:2}"
}
groups() { printf -- '--group=pyproject.toml:%s\n' "$@"; }
lock all requirements/torch.in $(groups build typecheck test)
# These agree with it.
lock site $(groups site) --constraint requirements/all.txt
lock lint $(groups lint) --constraint requirements/all.txt
lock nox requirements/nox.in --constraint requirements/all.txt
