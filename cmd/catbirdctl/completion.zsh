#compdef catbirdctl
# zsh completion for catbirdctl. Try it, after compinit, with
#   source <(catbirdctl completion zsh)
# and keep it as _catbirdctl in a folder of $fpath:
#   catbirdctl completion zsh > "${fpath[1]}/_catbirdctl"
_catbirdctl() {
    local -a found
    local text help
    while IFS=$'\t' read -r text help; do
        found+=("${text//:/\\:}${help:+:$help}")
    done < <("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)
    if (( $#found )); then
        _describe -V 'catbirdctl' found
    else
        _files
    fi
}
if [[ "$funcstack[1]" == _catbirdctl ]]; then
    _catbirdctl "$@"
else
    compdef _catbirdctl catbirdctl
fi
