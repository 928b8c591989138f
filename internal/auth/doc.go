// Package auth says who is asking: it verifies the bearer tokens of the
// clients' API (AT Protocol service auth: JWTs whose issuer is a DID), finds
// the keys of DIDs, keeps tokens from being used twice, and bounds how often
// one caller may ask.
//
// A token is signed with HS256 and a secret of the service, for development
// and tests, or with ES256 or ES256K and the key of the issuer's DID document
// (did:plc, did:web). What a token claims is checked before any document is
// fetched, its signature before its id is remembered: a forger can neither make
// the service fetch much nor use up somebody's token.
//
// Documents are fetched from hosts that callers choose. [NewResolver] therefore
// bounds everything about that, and never connects to an address that is not
// public ([PublicAddress]), whatever names resolve to.
//
// The package does not know HTTP requests, endpoints or conversations.
package auth
