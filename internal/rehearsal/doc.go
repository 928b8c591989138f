// Package rehearsal goes through a rollout as Kubernetes does it, without
// Kubernetes: server processes in the place of pods, stopped and started in a
// StatefulSet's order with its waits, asked by its probes, killed when their
// grace is over, and behind a load balancer that follows readiness with a delay;
// with clients that repeat nothing. It says how many requests failed.
//
// What it goes by is a [Plan], which is read from what a chart renders, so that a
// chart whose waits do not fit each other fails here before it does in a cluster.
//
// The package knows the orchestrator's habits, the nodes' ports and probes. It
// knows no chart, no Kubernetes and no part of the server.
package rehearsal
