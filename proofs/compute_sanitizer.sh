#!/usr/bin/env bash
# The four tools of compute-sanitizer, or those named, side by side, a process for each backend, over
# calls that reach every kernel at its edges, each format with one of six inputs, and a read of what
# is not there, which must be seen: compute_sanitizer.sh [FOLDER OF REPORTS [TOOL ...]]
set -u
cd "$(dirname "$0")/.."
reports=${1:-$(mktemp -d)}
mkdir -p "$reports"
# Each tensor an allocation of its own: what lies beside it is no one's.
export PYTORCH_NO_CUDA_MEMORY_CACHING=1
# All of them compute the reference: with a thread a core each, they would wait for each other.
export OMP_NUM_THREADS=1

watch() {  # REPORT TOOL ARGUMENTS
  timeout 1800 compute-sanitizer --tool "$2" --error-exitcode 9 \
    python -m proofs --device cuda "${@:3}" >"$reports/$1.txt" 2>&1
}

tools=("${@:2}")
[ ${#tools[@]} -gt 0 ] || tools=(memcheck racecheck initcheck synccheck)
status=0
declare -A started
for tool in "${tools[@]}"; do
  for backend in cuda triton; do
    watch "$tool-$backend" "$tool" --part calls --stride 6 --backend "$backend" &
    started[$tool-$backend]=$!
  done
done
for each in "${!started[@]}"; do
  wait "${started[$each]}"
  code=$?
  echo "$each: status $code: $(grep -E ' SUMMARY|[0-9] checked, ' "$reports/$each.txt" | xargs)"
  [ "$code" -eq 0 ] || status=1
done
watch planted memcheck --out-of-bounds
invalid=$(grep -c 'Invalid __global__ read' "$reports/planted.txt")
echo "planted read out of bounds: seen $invalid times"
[ "$invalid" -gt 0 ] || status=1
echo "reports: $reports"
exit $status
