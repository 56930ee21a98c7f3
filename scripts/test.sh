#!/usr/bin/env bash
# Everything that CI runs. Every part runs even where an earlier one failed, so that one run tells about all that is
# broken; any failure fails the run.
#
# Once the package is built there are two lanes: the Rust parts, which need the processors, and the Python parts, which
# mostly wait for disks and other programs. What the Python lane says is printed when both have ended, pytest's
# summary last.
set -uo pipefail
cd "$(dirname "$0")/.."

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# A part of `make test`; adds a line to the report of its lane.
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

# Without these nothing else can run.
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
