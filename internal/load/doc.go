// Package load puts traffic on a running cluster, measures what clients see of
// it, and checks that the cluster kept its word.
//
// An [Engine] creates conversations of its own and lets clients work on them
// for a bounded time: in an open loop, where operations are due at a rate that
// the cluster has no say in, or in a closed one, where each client asks again
// as soon as it was answered. In an open loop latency counts from the moment an
// operation was due, not from the moment it was sent: what a stalled server
// keeps waiting is waiting time, though no request is out for it.
//
// Whatever is acknowledged goes into books. While the load runs, no answer may
// fall behind one that was complete before the question went out; in the end
// every conversation's log is read back from its first row, and every
// acknowledged change must be there once, in its place, byte for byte, with the
// epoch it was acknowledged with. The books take a byte for each change and a
// little more for those that were not read back yet, so that a run may last for
// days.
//
// The package sees the cluster through the clients' API alone. It knows neither
// MLS beyond the header of a message, nor what is behind the API, nor how to
// break a cluster: who does that tells it by [Engine.AddEvent] and lets it run.
package load
