// Package client is a typed client of the XRPC API that a Catbird node serves:
// one method per endpoint, over one or several nodes in turn.
//
// It repeats a request only where that is safe. A refusal that says "later"
// (503, 429) did not happen, so it is repeated after its Retry-After. A request
// whose outcome is unknown (504, a lost connection) is repeated only where
// doing it twice is harmless: queries, and changes with an idempotency key.
// Where an outcome stays unknown, [OutcomeUnknown] says so; nothing is ever
// reported as refused that may have happened.
//
// The package does not know MLS: it carries bytes. It neither creates nor
// checks keys; with those that it is given it signs tokens ([HS256], [DIDKeys]).
package client
