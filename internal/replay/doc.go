// Package replay plays recorded MLS groups against a running service, one
// client per person, and then reads everything back as each of them: every
// byte, epoch, number and order must be what was sent.
//
// Steps of one group follow one another as they were recorded; groups run at
// the same time. All changes carry idempotency keys, so nodes may die under a
// replay: a step whose outcome is unknown is repeated.
//
// The group id is part of the recorded bytes, so a group can be written once
// per database. A second replay says so ([ErrExists]); with
// [Config.VerifyOnly] it reads back what is there.
//
// The recorded groups need a service that lets every member remove others
// (REMOVE_POLICY=member), as MLS does. The package knows the client API and
// nothing of what is behind it, and it never prints a ciphertext.
package replay
