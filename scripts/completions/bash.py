"""The completions for bash."""

from __future__ import annotations

from scripts.completions.model import PROGRAM_OPTIONS, Command

HEAD = """\
# Completions of fvd for bash. Made by 'make generated' from the parsers of the commands.

# Offers the words of $2 that begin with $1. Both are written after $3 on the line. Readline replaces only
# what follows the last = or :.
__fvd_offer() {
    local word before=$3$1
    [[ $before == *[=:]* ]] && before=${before%"${before##*[=:]}"} || before=
    for word in $2; do
        [[ $word == "$1"* ]] && word=$3$word && COMPREPLY+=("${word#"$before"}")
    done
    [[ ${COMPREPLY[0]-} == *= ]] && compopt -o nospace
    compopt +o default
}
"""

TAIL = """\
# Completes the value $2 of option $1, which is written after $3.
__fvd_value() {
    local values kind head= last=$2
    values=$(__fvd_values "$command $1")
    [[ $3 && ! $values ]] && values=$(__fvd_values "$command $1=")
    kind=${values%% *} values=${values#* }
    case $kind in
        words) __fvd_offer "$2" "$values" "$3" ;;
        files) ;;
        folders) compopt +o default -o dirnames ;;
        options)
            [[ $2 == *,* ]] && head=${2%,*}, last=${2##*,}
            if [[ $last == *=* ]]; then
                __fvd_offer "${last#*=}" "$(__fvd_option_values "${last%%=*}")" "$3$head${last%%=*}="
            else
                __fvd_offer "$last" "$(__fvd_options "$command")" "$3$head"
            fi
            ;;
        *) compopt +o default ;;
    esac
}

_fvd() {
    local words line=${COMP_LINE:0:COMP_POINT} command= actions previous current index=1
    COMPREPLY=()
    read -ra words <<<"$line"
    [[ $line == *' ' ]] && words+=('')
    current=${words[-1]} previous=${words[-2]}
    while ((index < ${#words[@]} - 1)); do
        case ${words[index]} in
            --log-level | --log-format | --errors) index=$((index + 2)) ;;
            -* | help) index=$((index + 1)) ;;
            *) command=${words[index]} && break ;;
        esac
    done
    if [[ ! $command ]]; then
        if [[ $previous == --log-* || $previous == --errors ]]; then
            __fvd_offer "$current" "$(__fvd_program_values "$previous")" ''
        elif [[ $current == -* ]]; then
            __fvd_offer "$current" "$__fvd_program_flags" ''
        else
            __fvd_offer "$current" "$__fvd_commands" ''
        fi
    elif [[ $current == --*=* ]]; then
        __fvd_value "${current%%=*}" "${current#*=}" "${current%%=*}="
    elif [[ $previous == -* && $(__fvd_values "$command $previous") ]]; then
        __fvd_value "$previous" "$current" ''
    elif [[ $current == -* ]]; then
        __fvd_offer "$current" "$(__fvd_flags "$command")" ''
    else
        actions=$(__fvd_actions "$command")
        [[ $actions ]] && ((index == ${#words[@]} - 2)) && __fvd_offer "$current" "$actions" ''
    fi
    return 0
}

complete -o default -F _fvd fvd
"""


def script(commands: list[Command]) -> str:
    """Return the script."""
    names = " ".join([*(command.name for command in commands), "help"])
    program_flags = " ".join(flag for flag, _, _ in PROGRAM_OPTIONS)
    pieces = [
        HEAD,
        f"__fvd_commands='{names}'\n__fvd_program_flags='{program_flags}'\n",
        _function(
            "__fvd_program_values", "$1", [(flag, " ".join(words)) for flag, _, words in PROGRAM_OPTIONS]
        ),
        _function("__fvd_flags", "$1", [(command.name, _flags(command)) for command in commands]),
        _function("__fvd_actions", "$1", [(it.name, " ".join(it.actions)) for it in commands if it.actions]),
        _function("__fvd_values", "$1", [entry for command in commands for entry in _values(command)]),
        _function(
            "__fvd_options", "$1", [(it.name, _option_names(it)) for it in commands if _takes_options(it)]
        ),
        _function("__fvd_option_values", "$1", _option_values(commands)),
        TAIL,
    ]
    return "\n".join(pieces)


def _function(name: str, subject: str, cases: list[tuple[str, str]]) -> str:
    lines = [f"        {pattern}) echo '{words}' ;;" for pattern, words in cases]
    return "\n".join([f"{name}() {{", f'    case "{subject}" in', *lines, "    esac", "}", ""])


def _flags(command: Command) -> str:
    return " ".join(flag for each in command.flags for flag in each.flags if flag.startswith("--"))


def _takes_options(command: Command) -> bool:
    return any(flag.values and flag.values.kind == "options" for flag in command.flags)


def _values(command: Command) -> list[tuple[str, str]]:
    """Return patterns of a command and an option, and what kind of value follows."""
    found = []
    for flag in command.flags:
        if flag.values:
            # A value that can be left out follows only a =.
            flags = [f"{it}=" if flag.only_after_equals else it for it in flag.flags]
            pattern = " | ".join(f'"{command.name} {it}"' for it in flags)
            found.append((pattern, f"{flag.values.kind} {' '.join(flag.values.words)}"))
    return found


def _option_names(command: Command) -> str:
    return " ".join(f"{option.name}=" for option in command.options)


def _option_values(commands: list[Command]) -> list[tuple[str, str]]:
    switches = sorted({option.name for command in commands for option in command.options if option.is_bool})
    return [(" | ".join(switches), "on off")]
