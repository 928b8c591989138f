// Package operator is the operators' HTTP API on the internal port: what a
// node holds, its flags, one conversation's overview, the state of the data,
// and how to make a node leave. Whoever asks must know the cluster's secret,
// where one is set.
//
// It never shows a ciphertext or a secret. It does not know SQL, actors or how
// requests are delivered: it asks for the few methods it needs.
package operator
