"""`emu completion SHELL`: a script by which the shell completes emu's command lines.

It is made of the declarations that the parsers are made of, and asks emu nothing when it runs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from shlex import quote

from emu.cli.commands import FILE, FOLDER, Command, Option, Word, programs, subcommands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the shells."""
    parser.add_argument("shell", choices=tuple(SHELLS), help="the shell that shall complete")


def main(args: Namespace) -> int:
    """Prints the script; 0."""
    sys.stdout.write(SHELLS[args.shell](programs(), subcommands()))
    return 0


def _takers(command: Command) -> list[Option]:
    return [option for option in command.options if option.value]


# -- bash ------------------------------------------------------------------------------------

BASH = r"""# For bash: eval "$(emu completion bash)", or into ~/.local/share/bash-completion/completions/emu
_emu_files() {
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen "$1" -- "$cur")
}

_emu_words() {
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
}

_emu() {
    local cur=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} path=emu at word
    COMPREPLY=()
    if [[ $cur == = ]]; then
        cur=
    elif [[ $before == = ]]; then
        before=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    # What is asked for: a subcommand and its action, or a program, whose own all that follows it is.
    for ((at = 1; at < COMP_CWORD; at++)); do
        word=${COMP_WORDS[at]}
        case "$path $word" in
        @SUBCOMMANDS@)
            [[ $path != emu || $at == 1 ]] && path="$path $word" && continue
            ;;
        esac
        case "$path $word" in
        @VALUED@)
            [[ ${COMP_WORDS[at + 1]} == = ]] && ((at++))
            ((at++))
            ;;
        "emu -"*) ;;
        "emu "*) return ;;
        esac
    done
    case "$path $before" in
@VALUES@
    esac
    case "$path" in
@WORDS@
    esac
}
complete -o bashdefault -o default -F _emu emu
complete -o bashdefault -o default -W '@QEMU@' emu-system-aarch64 emu-system-x86_64
"""


def bash(run: Command, others: list[Command]) -> str:
    """bash's: a function that finds the command and looks into tables."""
    every = [run, *(each for other in others for each in other.all())]
    paths = [f'"{_path(command)}"' for command in every if command.path]
    valued = [
        f'"{_path(each)} {name}"' for each in every for option in _takers(each) for name in option.names
    ]
    values, words = [], []
    for command in every:
        for option in _takers(command):
            patterns = "|".join(f'"{_path(command)} {name}"' for name in option.names)
            values += [
                f"    {patterns})",
                f"        {_bash(option) or 'return'}",
                "        return",
                "        ;;",
            ]
        names = [name for option in command.options for name in option.names]
        first = [each.path[-1] for each in (others if not command.path else command.actions)]
        known = [word for each in command.words for word in each.words]
        words += [f'    "{_path(command)}")']
        words += [f"        if [[ $cur == -* ]]; then _emu_words {quote(' '.join(names))}"]
        if command.words and command.words[0].kind == FOLDER:
            words += ["        else _emu_files -d"]
        elif first or known:
            there = quote(" ".join((*first, *known)))
            words += [f"        else _emu_words {there}"]
            if not command.path:  # or a program
                words[-1] = words[-1].replace("else", "elif ((at == 1)); then")
        words += ["        fi", "        ;;"]
    script = BASH.replace("@SUBCOMMANDS@", " | ".join(paths)).replace("@VALUED@", " | ".join(valued))
    script = script.replace("@VALUES@", "\n".join(values)).replace("@WORDS@", "\n".join(words))
    return script.replace("@QEMU@", " ".join(_of_qemu()))


def _of_qemu() -> list[str]:
    """The options of emu-system that do something."""
    from emu.system.options import DONE, OPTIONS

    return [f"-{name}" for option in OPTIONS if option.becomes == DONE for name in option.names]


def _path(command: Command) -> str:
    return " ".join(("emu", *command.path))


def _bash(option: Option) -> str:
    if option.words:
        return f"_emu_words {quote(' '.join(option.words))}"
    return {FILE: "_emu_files -f", FOLDER: "_emu_files -d"}.get(option.kind, "")


# -- zsh ------------------------------------------------------------------------------------

ZSH = r"""#compdef emu
# For zsh: eval "$(emu completion zsh)", or into a file _emu of a folder of $fpath
@FUNCTIONS@
_emu() {
    local -a subcommands=(
@SUBCOMMANDS@
    )
    if ((CURRENT == 2)) && [[ $words[2] != -* ]]; then
        _describe -t subcommands subcommand subcommands
        _files
        return
    fi
    case $words[2] in
@CASES@
    *) _emu_program ;;
    esac
}
if [[ $funcstack[1] == _emu ]]; then
    _emu "$@"
else
    compdef _emu emu
    _emu_system() {
        if [[ $words[CURRENT] == -* ]]; then compadd -- @QEMU@; else _files; fi
    }
    compdef _emu_system emu-system-aarch64 emu-system-x86_64
fi
"""


def zsh(run: Command, others: list[Command]) -> str:
    """zsh's: a function for each command, which says what _arguments takes."""
    functions = [_zsh(run, "_emu_program", "-S -A '-*'")]
    for other in others:
        functions += [_zsh(each, "_emu_" + "_".join(each.path)) for each in other.all()]
    told = [f"        {quote(f'{each.path[-1]}:{each.about}')}" for each in others]
    cases = [f"    {each.path[-1]}) shift words; ((CURRENT--)); _emu_{each.path[-1]} ;;" for each in others]
    script = ZSH.replace("@FUNCTIONS@", "\n".join(functions)).replace("@SUBCOMMANDS@", "\n".join(told))
    return script.replace("@CASES@", "\n".join(cases)).replace("@QEMU@", " ".join(_of_qemu()))


def _zsh(command: Command, name: str, how: str = "") -> str:
    lines = [f"{name}() {{"]
    if command.actions:
        lines += ["    local curcontext=$curcontext state line", "    typeset -A opt_args"]
    lines += [" ".join(("    _arguments", *("-C",) * bool(command.actions), how)).rstrip() + " \\"]
    for option in command.options:
        text = _plain(option.text).replace("[", "(").replace("]", ")")
        value = f":{_plain(option.value)}:{_zsh_value(option)}" if option.value else ""
        for each in option.names:
            joined = "=" if value and each.startswith("--") else "+" if value else ""
            lines += [f"        {quote(f'*{each}{joined}[{text}]{value}')} \\"]
    for number, word in enumerate(command.words, 1):
        place = "*:" if word.several else f"{number}:"
        action = "_files" if word.value == "ARGS" else _zsh_value(word)
        lines += [f"        {quote(f'{place}{_plain(word.value)}:{action}')} \\"]
    if command.actions:
        names = " ".join(each.path[-1] for each in command.actions)
        lines += [f"        {quote(f'1:action:({names})')} \\", "        '*:: :->action'"]
        cases = [f"    {each.path[-1]}) _emu_{'_'.join(each.path)} ;;" for each in command.actions]
        lines += ["    [[ $state == action ]] || return", "    case $line[1] in", *cases, "    esac"]
    lines[-1] = lines[-1].removesuffix(" \\")
    return "\n".join((*lines, "}"))


def _plain(text: str) -> str:
    """A text where colons have a meaning."""
    return text.replace("\\", "\\\\").replace(":", "\\:")


def _zsh_value(of: Option | Word) -> str:
    if of.words:
        return f"({' '.join(map(_plain, of.words))})"
    return {FILE: "_files", FOLDER: "_files -/"}.get(of.kind, " ")


# -- fish ------------------------------------------------------------------------------------

FISH = """# For fish: emu completion fish | source, or into ~/.config/fish/completions/emu.fish
function __emu_at
    set -l words (commandline -opc)
    set -e words[1]
    test (count $words) -ge (count $argv); or return 1
    for i in (seq (count $argv))
        test "$words[$i]" = "$argv[$i]"; or return 1
    end
end
function __emu_first
    test (count (commandline -opc)) -eq 1
end
"""


def fish(run: Command, others: list[Command]) -> str:
    """fish's: a line for each word and option, and when it may stand."""
    names = " ".join(each.path[-1] for each in others)
    lines = ["function __emu_any", f"    contains -- (commandline -opc)[2] {names}", "end"]
    lines += [
        f"complete -c emu -n __emu_first -a {each.path[-1]} -d {_fish_text(each.about)}" for each in others
    ]
    lines += _fish(run, "not __emu_any")
    for other in others:
        for command in other.all():
            below = " ".join(each.path[-1] for each in command.actions)
            outside = f"; and not __fish_seen_subcommand_from {below}" if below else ""
            lines += _fish(command, f"__emu_at {' '.join(command.path)}{outside}")
    lines += [
        f"complete -c emu-system-{arch} -a {quote(' '.join(_of_qemu()))}" for arch in ("aarch64", "x86_64")
    ]
    return FISH + "\n".join(lines) + "\n"


def _fish(command: Command, when: str) -> Iterable[str]:
    head = f"complete -c emu -n {quote(when)}"
    for option in command.options:
        names = " ".join(
            f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names
        )
        words = f" -x -a {quote(' '.join(option.words))}" if option.words else ""
        value = words or {FILE: " -r -F", FOLDER: " -x -a '(__fish_complete_directories)'"}.get(
            option.kind, " -x"
        )
        yield f"{head} {names}{value if option.value else ''} -d {_fish_text(option.text)}"
    for action in command.actions:
        yield f"{head} -f -a {action.path[-1]} -d {_fish_text(action.about)}"
    for word in command.words:
        if word.words:
            yield f"{head} -f -a {quote(' '.join(word.words))}"


def _fish_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


SHELLS = {"bash": bash, "zsh": zsh, "fish": fish}
