"""The completions for fish."""

from __future__ import annotations

from scripts.completions.model import PROGRAM_OPTIONS, Command, Flag, Values

HEAD = """\
# Completions of fvd for fish. Made by 'make generated' from the parsers of the commands.

# Whether no command has been given yet.
function __fvd_needs_command
    not __fish_seen_subcommand_from $__fvd_commands
end

# Whether the command $argv[1] has been given, and nothing after it.
function __fvd_needs_action
    set -l words (commandline -opc)
    test (count $words) -ge 2; and test "$words[-1]" = "$argv[1]"
end

# The last of several options a=b,c=d, with each of the names and values $argv.
function __fvd_options
    set -l typed (string replace -r -- '^(--[a-z-]+=|-o)' '' (commandline -ct))
    set -l head (string replace -r -- '[^,]*$' '' $typed)
    for option in $argv
        echo $head$option
    end
end

complete -c fvd -e
"""


def script(commands: list[Command]) -> str:
    """Return the script."""
    names = " ".join(command.name for command in commands)
    lines = [HEAD, f"set -g __fvd_commands {names}"]
    needs = "complete -c fvd -n __fvd_needs_command -f"
    lines += [f"{needs} -a {it.name} -d {_quoted(it.summary)}" for it in commands]
    for flag, text, words in PROGRAM_OPTIONS:
        values = f" -x -a {_quoted(' '.join(words))}" if words else ""
        lines.append(f"{needs} -l {flag[2:]}{values} -d {_quoted(text)}")
    for command in commands:
        lines.append("")
        lines += _lines(command)
    return "\n".join(lines) + "\n"


def _lines(command: Command) -> list[str]:
    begin = f"complete -c fvd -n '__fish_seen_subcommand_from {command.name}'"
    lines = [f"{begin} {_flag(command, flag)} -d {_quoted(flag.help)}" for flag in command.flags]
    needs = f"complete -c fvd -n '__fvd_needs_action {command.name}'"
    return lines + [f"{needs} -f -a {action}" for action in command.actions]


def _flag(command: Command, flag: Flag) -> str:
    names = " ".join(f"-l {it[2:]}" if it.startswith("--") else f"-s {it[1:]}" for it in flag.flags)
    if flag.values is None:
        return names
    # fish has no options whose value can be left out: the value is offered after a =.
    requires = "-f" if flag.only_after_equals else "-r" if flag.values.kind == "files" else "-x"
    return f"{names} {requires}{_values(command, flag.values)}"


def _values(command: Command, values: Values) -> str:
    if values.kind == "words":
        return f" -a {_quoted(' '.join(values.words))}"
    if values.kind == "folders":
        return " -a '(__fish_complete_directories)'"
    if values.kind == "options":
        names = [
            f"{it.name}={value}"
            for it in command.options
            for value in ("", "on", "off")[: 1 + 2 * it.is_bool]
        ]
        return f" -a '(__fvd_options {' '.join(names)})'"
    return ""


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
