#!/usr/bin/env bash
# The four tools of compute-sanitizer over calls that reach every kernel at its edges, shared by as
# many processes as there are cores, and a read of what is not there, which must be seen. Reports:
# the folder given, or a new one.
set -u
cd "$(dirname "$0")/.."
reports=${1:-$(mktemp -d)}
mkdir -p "$reports"
# Each tensor an allocation of its own: what lies beside it is no one's.
export PYTORCH_NO_CUDA_MEMORY_CACHING=1
# A process a core: more threads would wait for each other.
export OMP_NUM_THREADS=1
tools=(memcheck racecheck initcheck synccheck)
shares=$((($(nproc) + 3) / 4))

watch() {  # REPORT TOOL ARGUMENTS
  timeout 1800 compute-sanitizer --tool "$2" --error-exitcode 9 \
    python -m proofs --device cuda "${@:3}" >"$reports/$1.txt" 2>&1
}

status=0
declare -A started
for tool in "${tools[@]}"; do
  for ((i = 1; i <= shares; i++)); do
    watch "$tool-$i" "$tool" --part calls --share "$i/$shares" &
    started[$tool-$i]=$!
  done
done
for tool in "${tools[@]}"; do
  codes=""
  for ((i = 1; i <= shares; i++)); do
    wait "${started[$tool-$i]}"
    code=$?
    codes+=" $code"
    [ "$code" -eq 0 ] || status=1
  done
  echo "$tool: statuses$codes:" $(grep -hE '[0-9] checked, ' "$reports/$tool"-*.txt | tr -d , |
    awk '{ checked += $1; differ += $3 } END { print checked + 0, "checked,", differ + 0, "differ" }')
  grep -h ' SUMMARY' "$reports/$tool"-*.txt | sort | uniq -c
done
watch planted memcheck --out-of-bounds
invalid=$(grep -c 'Invalid __global__ read' "$reports/planted.txt")
echo "planted read out of bounds: seen $invalid times"
[ "$invalid" -gt 0 ] || status=1
echo "reports: $reports"
exit $status
