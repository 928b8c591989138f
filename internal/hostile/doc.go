// Package hostile holds the tests that attack whole nodes the way a stranger, a
// client that means harm or a former member would, through the ports that a node
// opens and nothing else. docs/security.md lists each attempt, what answers it,
// and the test; some of those tests are beside the package that they are about.
//
// It has no code of its own, and its tests know nothing of what is inside a node.
package hostile
