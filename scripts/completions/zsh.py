"""The completions for zsh."""

from __future__ import annotations

from collections.abc import Iterator

from fvd.options import Option
from scripts.completions.model import PROGRAM_OPTIONS, Command, Flag, Values

HEAD = """\
#compdef fvd
# Completions of fvd for zsh. Made by 'make generated' from the parsers of the commands.
"""

TAIL = """\
_fvd() {
    local curcontext=$curcontext state line
    typeset -A opt_args
    _arguments -C \\
PROGRAM
        '1:command:->command' \\
        '*::argument:->argument'
    case $state in
        command) _describe -t commands command _fvd_commands ;;
        argument)
            curcontext=${curcontext%:*:*}:fvd-$words[1]:
            if [[ $words[1] == help ]]; then
                _describe -t commands command _fvd_commands
            else
                (( $+functions[_fvd_$words[1]] )) && _fvd_$words[1]
            fi
            ;;
    esac
}

typeset -ga _fvd_commands
_fvd_commands=(
COMMANDS
)

_fvd "$@"
"""


def script(commands: list[Command]) -> str:
    """Return the script."""
    listed = "\n".join(f"    {_quoted(f'{it.name}:{it.summary}')}" for it in commands)
    program = "\n".join(f"        {_program_option(*option)} \\" for option in PROGRAM_OPTIONS)
    tail = TAIL.replace("COMMANDS", listed).replace("PROGRAM", program)
    return "\n".join([HEAD, *(text for command in commands for text in _functions(command)), tail])


def _program_option(flag: str, text: str, words: tuple[str, ...]) -> str:
    value = f":value:({' '.join(words)})" if words else ""
    return _quoted(f"{flag}[{text}]{value}")


def _functions(command: Command) -> Iterator[str]:
    if any(flag.values and flag.values.kind == "options" for flag in command.flags):
        lines = " \\\n        ".join(map(_option, command.options))
        yield f"_fvd_options_{command.name}() {{\n    _values -s , option \\\n        {lines}\n}}\n"
    operands = [_quoted(f"1:action:({' '.join(command.actions)})")] if command.actions else []
    specs = [spec for flag in command.flags for spec in _specs(command, flag)]
    lines = " \\\n        ".join([*specs, *operands, "'*:file:_files'"])
    yield f"_fvd_{command.name}() {{\n    _arguments -s \\\n        {lines}\n}}\n"


def _specs(command: Command, flag: Flag) -> list[str]:
    """Return the specifications for `_arguments`, one for each name of the option."""
    text = flag.help.replace("[", "\\[").replace("]", "\\]")
    others = f"({' '.join(flag.flags)})" if len(flag.flags) > 1 and not _is_repeatable(flag) else ""
    repeated = "*" if _is_repeatable(flag) else ""
    return [_quoted(f"{others}{repeated}{it}{_value(command, flag, it, text)}") for it in flag.flags]


def _is_repeatable(flag: Flag) -> bool:
    return bool({"--options", "--trust", "--tls-authz"} & set(flag.flags))


def _value(command: Command, flag: Flag, name: str, text: str) -> str:
    if flag.values is None:
        return f"[{text}]"
    action = _action(command, flag.values)
    value = f":{flag.values.name.replace(':', '-')}:{action}"
    if flag.only_after_equals:
        return f"=-[{text}]:{value}" if name.startswith("--") else f"[{text}]"
    return f"{'=' if name.startswith('--') else '+'}[{text}]{value}"


def _action(command: Command, values: Values) -> str:
    if values.kind == "words":
        return f"({' '.join(values.words)})"
    if values.kind == "files":
        return "_files"
    if values.kind == "folders":
        return "_files -/"
    if values.kind == "options":
        return f"_fvd_options_{command.name}"
    return " "


def _option(option: Option) -> str:
    text = (
        option.description.partition(";")[0]
        .replace(":", "\\:")
        .replace("[", "(")
        .replace("]", ")")
        .replace("'", "")
    )
    action = "(on off)" if option.is_bool else "_files" if option.kind == "file" else ""
    return _quoted(f"{option.name}[{text}]:value:{action}")


def _quoted(text: str) -> str:
    """Return the text as one word of zsh."""
    escaped = text.replace("'", "'\\''")
    return f"'{escaped}'"
