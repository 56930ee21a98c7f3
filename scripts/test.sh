#!/usr/bin/env bash
# Runs everything that CI runs. A failure of one part does not prevent the others from running, so that one
# run shows everything that is broken. Any failure makes the run fail.
#
# After the package is built, two lanes run in parallel: the Rust parts, which need the processors, and the
# Python parts, which mostly wait for disks and other programs. The output of the Python lane is printed when
# both have ended, with pytest's summary last.
set -uo pipefail
cd "$(dirname "$0")/.."

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# Runs a part of `make test`, and adds a line to the report of its lane.
part() {
    local lane=$1 name=$2 started=$SECONDS result=ok
    printf '\n=== %s\n' "$name"
    "${MAKE:-make}" --no-print-directory "$name" </dev/null || result=FAILED
    printf '%-14s %-7s %4d s\n' "$name" "$result" $((SECONDS - started)) >>"$logs/$lane.report"
    [[ $result == ok ]]
}
lane() {
    local lane=$1 name
    shift
    for name in "$@"; do
        part "$lane" "$name"
    done
    return 0
}
print_report() {
    printf '\n=== what ran\n'
    cat "$logs"/*.report
}

# The other parts need these.
for name in tools build; do
    part 0-first "$name" || { print_report; exit 1; }
done
lane 2-python lint-words lint-python stubs crates demo test-python >"$logs/python.log" 2>&1 &
lane 1-rust lint-rust docs test-rust test-mutations test-doc
wait
print_report
cat "$logs/python.log"
failed=$(awk '$2 == "FAILED" { print $1 }' "$logs"/*.report)
if [[ $failed ]]; then
    printf '\nfailed: %s\n' "${failed//$'\n'/ }" >&2
    exit 1
fi
