// Package dev is a cluster within one process, to be tried out without anything
// installed: whole nodes with real gossip, HTTP and streams between them, a lease
// in a Redis that runs in the process too, one embedded database that they
// share, and a load balancer before them. A node can be stopped in order, killed
// without warning, and started again under its name.
//
// A [Tour] does that to a cluster while clients use it, and says what it did,
// what moved, and what failed.
//
// The package puts nodes together and looks at them through their ports. It
// knows nothing of what is inside a node, and it is not for production.
package dev
