#!/usr/bin/env bash
# Builds every fuzz target and runs each on its corpus: run.sh [RUNS [SECONDS]]; a target ends at
# whichever comes first. With clang, libFuzzer looks for new paths; without it, the seeded driver in
# main.c mutates the corpus. A crash leaves its input in build/fuzz*, and the status is not 0.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly STANDALONE_RUNS_PER_S=100
runs="${1:-200000}"
seconds="${2:-0}" # 0: no limit
preset=fuzz-standalone
if command -v clang >/dev/null && echo 'int LLVMFuzzerTestOneInput(const char *d, long n) { return d && n < 0; }' |
    clang -x c -fsanitize=fuzzer -o /dev/null - 2>/dev/null; then
    preset=fuzz
elif ((seconds > 0 && runs > seconds * STANDALONE_RUNS_PER_S)); then
    runs=$((seconds * STANDALONE_RUNS_PER_S)) # the driver of main.c has no clock
fi

cmake --preset "$preset"
cmake --build --preset "$preset"
export ASAN_OPTIONS=abort_on_error=1
cd "build/$preset"
for target in fuzz_*; do
    [[ -x $target && -f $target ]] || continue
    corpus="../../tests/fuzz/corpus/${target#fuzz_}"
    found="found-$target"
    mkdir -p "$found"
    # New inputs go to the first folder; the committed corpus is read only.
    "./$target" -runs="$runs" -seed=1 -max_len=8192 -max_total_time="$seconds" "$found" "$corpus"
done
