# bash completion for catbirdctl. Try it with
#   source <(catbirdctl completion bash)
# and keep it with
#   catbirdctl completion bash > ~/.local/share/bash-completion/completions/catbirdctl
_catbirdctl() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        COMPREPLY+=("${line%%$'\t'*}")
    done < <("${COMP_WORDS[0]}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _catbirdctl catbirdctl
