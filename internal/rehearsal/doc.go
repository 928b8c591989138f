// Package rehearsal goes through what Kubernetes does to the pods of a cluster,
// without Kubernetes, with server processes in the place of pods and clients that
// repeat nothing. It says how many requests failed.
//
// Its controllers create, replace and delete the pods of several sets in their
// order and with their waits, one rendering after another, and keep what a partition
// holds back as it was. Its kubelets ask the startup, liveness and readiness probes,
// restart what does not answer, wait for a hook, and kill when the grace is over.
// Evictions obey disruption budgets. A load balancer follows readiness and deletions
// with a delay.
//
// What it goes by are [Plan]s, which are read from what a chart renders, so that a
// chart whose waits do not fit each other fails here before it does in a cluster.
// No time of a plan is shortened.
//
// The package knows the orchestrator's habits, the nodes' ports and probes. It
// knows no chart, no Kubernetes and no part of the server. It does not know what a
// scheduler does, nor how far an autoscaler would go: that is said by the steps.
package rehearsal
