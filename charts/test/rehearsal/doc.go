// Package rehearsal says of a rendered chart what Kubernetes does with its nodes'
// processes: which sets of them there are and how each is updated and scaled, how
// one is started, asked and stopped, with which settings it runs, and how many may
// be evicted. With it that can be rehearsed without a cluster. It starts nothing
// itself.
package rehearsal
