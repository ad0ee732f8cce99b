"""`d2skill completion`: scripts that complete commands, flags, runs and ids of skills by Tab.

A script asks `d2skill __complete WORD ...` (`cli.complete`) for what may stand in place of the last word, so it never
grows old; where that answers nothing, the shell completes names of files. shtab, which tyro offers, writes the flags
into a script for each command, and knows neither runs nor skills.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from tyro.conf import Positional

from d2skill.cli.bank.tables import say
from d2skill.cli.output import Output

_SCRIPTS = {
    "bash": """\
# Put `source <(d2skill completion bash)` into ~/.bashrc.
_d2skill() {
    local found
    COMPREPLY=()
    while IFS= read -r found; do
        [[ $found == *[!A-Za-z0-9_.,:/=@%+-]* ]] && printf -v found %q "$found"
        COMPREPLY+=("$found")
    done < <(d2skill __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _d2skill d2skill""",
    "zsh": """\
#compdef d2skill
# Put `source <(d2skill completion zsh)` into ~/.zshrc, behind `compinit`;
# or write this script into a file _d2skill in a folder of fpath.
_d2skill() {
    local -a found
    found=("${(@f)$(d2skill __complete "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
    [[ -n "${found[1]}" ]] && compadd -a found || _files
}
[[ "$funcstack[1]" == _d2skill ]] && _d2skill "$@" || compdef _d2skill d2skill""",
    "fish": """\
# Put `d2skill completion fish | source` into ~/.config/fish/config.fish.
function __d2skill_complete
    set -l found (d2skill __complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null)
    if set -q found[1]
        printf '%s\\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c d2skill -f -a '(__d2skill_complete)'""",
}


def completion(shell: Positional[Literal["bash", "zsh", "fish"]]) -> Output:
    """Print a script for a shell that completes commands, flags, names of runs and ids of skills by Tab.

    Args:
        shell: The shell; the first line of the script says where it belongs.
    """
    return Output({"shell": shell, "script": _SCRIPTS[shell]}, partial(say, _SCRIPTS[shell]))
