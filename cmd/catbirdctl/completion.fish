# fish completion for catbirdctl. Try it with
#   catbirdctl completion fish | source
# and keep it with
#   catbirdctl completion fish > ~/.config/fish/completions/catbirdctl.fish
function __catbirdctl_complete
    set -l words (commandline -opc) (commandline -ct)
    $words[1] __complete $words[2..-1] 2>/dev/null
end
complete -c catbirdctl -f -a '(__catbirdctl_complete)'
