// Package charttest holds the Helm chart, the plain manifests, the alerts, the
// dashboard and the compose file to what they say, without a cluster. It has no
// code of its own, only tests.
package charttest
