// Package testenv gives tests the real servers that Catbird runs against:
// PostgreSQL and Redis, and a network between them that can fail.
//
// [Postgres] returns a fresh, empty database, [Redis] the address of a Redis.
// Both use the server that TEST_DATABASE_URL or TEST_REDIS_URL names; without
// one they start a server of their own from the installed programs, once per
// test process. A server that can neither be found nor started fails the test:
// nothing is ever skipped. Tests of bad weather start a [Server] for themselves,
// which they may stop, kill and freeze, and put a [Proxy] before it; a [Network] has
// hosts for processes that can be cut off from each other.
//
// A server never outlives the process that started it, however that ends: a
// small shell stands between the two and stops the server, and removes its
// data, when its standard input closes.
//
// The package knows nothing of Catbird. It is for tests and for the programs
// that run them.
package testenv
