// Package conversation is the domain: what a conversation is, what may happen
// to it, and what each of those things does. It imports the standard library
// only and does no input or output.
//
// [Decide] is the heart: one pure function from a [State] and a [Request] to a
// [Change] or a coded [Error]. The actor and the direct database path both
// decide through it, so the two cannot drift apart.
//
// The package does not know HTTP, databases, actors or clusters, and it never
// looks inside a ciphertext beyond the plain header that RFC 9420 section 6
// puts in front of one.
package conversation
