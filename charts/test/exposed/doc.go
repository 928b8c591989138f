// Package exposed holds queries of Prometheus to what nodes expose: every metric,
// label and value that a query names must be there. It takes what nodes expose
// from a list, which a test beside the server holds to a running node.
package exposed
