// Package chaos runs a cluster of server processes through faults while clients
// use it, and says whether it kept its word.
//
// The faults are drawn from a seed and come one after another and together:
// nodes stopped, killed and frozen, PostgreSQL and Redis restarted, killed and
// frozen, networks cut and slowed, flags turned, the cluster grown and shrunk.
// What clients saw is recorded by package history, which judges it. Beside it
// everything that was acknowledged is looked for in the database, unread counts
// are held to the log, the trail that claims left in the database to the rules
// of ownership, and the data to its integrity. [Run] does that; [Plan] makes only
// those changes that are to fail no request, and holds the cluster to that.
//
// The package sees the service from outside: through the ports of its nodes, and
// through the tables of its database. It knows no rule of the service's own but
// those it checks.
package chaos
