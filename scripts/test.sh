#!/usr/bin/env bash
# Everything that CI runs, in order. Every part runs even where an earlier one failed, so that one run tells
# about all that is broken; any failure fails the run. pytest is last, and so is its summary, unless
# something failed before it.
set -uo pipefail
cd "$(dirname "$0")/.."

failed=()
report=()
part() {
    local name=$1 started=$SECONDS result=ok
    printf '\n=== %s\n' "$name"
    "${MAKE:-make}" --no-print-directory "$name" </dev/null || { result=FAILED; failed+=("$name"); }
    report+=("$(printf '%-14s %-7s %4d s' "$name" "$result" $((SECONDS - started)))")
    [[ $result == ok ]]
}
print_report() {
    printf '\n=== what ran\n'
    printf '%s\n' "${report[@]}"
}

# Without these nothing else can run.
for name in tools build; do
    part "$name" || { print_report; exit 1; }
done
for name in lint-rust lint-python stubs test-rust test-mutations test-doc demo; do
    part "$name"
done
print_report
part test-python
if ((${#failed[@]})); then
    printf '\nfailed: %s\n' "${failed[*]}" >&2
    exit 1
fi
