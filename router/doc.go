// Package router is the clients' HTTP API: AT Protocol XRPC with thirteen
// methods under blue.catbird.mls, as docs/api.md describes them and
// docs/openapi.yaml lists them.
//
// An endpoint is one line in the table of [endpoints] and one function that
// turns its input into a command of package conversation, or a question to the
// store, and the result into its output. Everything else happens in one place
// for all of them, in this order: a request id, a bound on what is in work, the
// token, the caller's rate, the form of the input; then the endpoint's
// function; then the answer or, through [classify] alone, an error.
//
// The package does not know actors, nodes or SQL. Changes and the epoch go
// through [Delivery], which knows where a conversation lives; everything else
// is read from the [Store], which any node may do (rule 12 of
// docs/architecture.md).
package router
