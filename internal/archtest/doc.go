// Package archtest holds the code to what docs/architecture.md says of it: who
// may know whom, with the reason beside each ban, and a few habits that a
// reader relies on. It has no code of its own, only tests.
package archtest
