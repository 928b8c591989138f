// Package wire reads what clients of the API send and writes the forms that
// they get: strict JSON bodies, query strings, base64 in every form in use, the
// AT Protocol's bytes, times.
//
// A struct with tags says what an endpoint takes, in one place for decoding,
// for error messages and for the test that holds the API's description to the
// code:
//
//	type input struct {
//		ConvoID string `json:"convoId" xrpc:"required"`
//		Limit   *int64 `json:"limit"`
//	}
//
// The decoder is stricter than encoding/json, because what it lets through is
// stored and shown to others: names are matched exactly, a field given twice,
// text that is no Unicode or holds NUL (which databases refuse), deep nesting
// and anything after the body are refused, and every refusal names the field.
// Fields that nobody knows are skipped. It is also several times faster, which
// matters for bodies of megabytes.
//
// The package does not know endpoints, HTTP or conversations.
package wire
