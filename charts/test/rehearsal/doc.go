// Package rehearsal says of a rendered chart what happens to its nodes' processes
// in a rolling update: which one is stopped when, how, what it is asked, and with
// which settings it runs. With it an update can be rehearsed without a cluster. It
// starts nothing itself.
package rehearsal
