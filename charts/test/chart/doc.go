// Package chart renders the Helm chart as `helm template` and `helm upgrade` do,
// without a cluster, and decodes what comes out strictly, into the API types of
// what Kubernetes and its extensions would read. It does not know what the chart
// should say.
package chart
