// Package demands checks objects of custom resources against what their Go types'
// comments demand of each field, beside its type: kubebuilder's markers, from which
// the resources' definitions are made. It knows patterns, enumerations, lengths,
// bounds and what is required, and not the rules that are written in CEL.
package demands
