"""``descend completion``: a script for the shell that completes verbs, flags, their choices and names of techniques.

The script is made from the help of every verb, so it knows what they know. It holds all words itself: nothing is started when a
key is pressed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
from collections.abc import Iterator
from importlib import import_module

from descend.augment.policy_names import POLICIES
from descend.cli import VERBS, module_of
from descend.cli.catalogue import FAMILIES, entries
from descend.cli.output import Parser, tell

EPILOG = """bash:  descend completion bash > ~/.local/share/bash-completion/completions/descend
zsh:   descend completion zsh > ~/.descend-completion && echo 'source ~/.descend-completion' >> ~/.zshrc
fish:  descend completion fish > ~/.config/fish/completions/descend.fish"""
_CHOICES = re.compile(r"(?<![\w-])(--[a-z][a-z0-9-]*)(?:[ =]\[?\{([^}]*)\})?")

Flags = dict[str, tuple[str, ...]]
"""Flag -> the words that may follow it; () where it takes none of a list."""


def main(argv: list[str]) -> int:
    """Print the script."""
    parser = Parser(
        prog="descend completion", description="Print a completion script for the shell.", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))
    shell = parser.parse_args(argv).shell
    flags = {verb: flags_of(verb) for verb in VERBS}
    if shell == "fish":
        tell(*_fish(flags))
    else:
        tell(*(["autoload -Uz bashcompinit && bashcompinit"] if shell == "zsh" else []), *_bash(flags))
    return 0


def flags_of(verb: str) -> Flags:
    """Return the flags of a verb, read from its help, with what may follow them."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        import_module(module_of(verb)).main(["--help"])
    flags: Flags = {}
    for flag, choices in _CHOICES.findall(re.sub(r"\s+", " ", text.getvalue().partition("\nexamples:")[0])):
        flags[flag] = flags.get(flag) or tuple(word for word in choices.split(",") if word)
    techniques = entries()
    for setting, family in FAMILIES.items():
        if f"--{setting}" in flags:
            names = [entry["name"] for entry in techniques if entry["family"] == family]
            flags[f"--{setting}"] = (*names, *(POLICIES if setting == "augment" else ()))
    return flags


def _bash(flags: dict[str, Flags]) -> Iterator[str]:
    yield "_descend() {"
    yield "  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} verb=${COMP_WORDS[1]} words="
    yield f'  if [ "$COMP_CWORD" -eq 1 ]; then words="{" ".join(VERBS)}"; else'
    yield '    case "$verb $before" in'
    for verb, known in flags.items():
        for flag, choices in known.items():
            if choices:
                yield f'      "{verb} {flag}") words="{" ".join(choices)}";;'
    yield '      *) case "$verb" in'
    for verb, known in flags.items():
        yield f'        {verb}) words="{" ".join(known)}";;'
    yield "      esac;;"
    yield "    esac"
    yield "  fi"
    yield '  COMPREPLY=($(compgen -W "$words" -- "$word"))'
    yield "}"
    yield "complete -o default -F _descend descend"


def _fish(flags: dict[str, Flags]) -> Iterator[str]:
    for verb, what in VERBS.items():
        yield f"complete -c descend -n __fish_use_subcommand -f -a {verb} -d '{what}'"
    for verb, known in flags.items():
        for flag, choices in known.items():
            follows = f" -xa '{' '.join(choices)}'" if choices else ""
            yield f"complete -c descend -n '__fish_seen_subcommand_from {verb}' -l {flag.removeprefix('--')}{follows}"
