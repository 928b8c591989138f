// Package smoke tells whether a deployment works, by using it: it asks for its
// health, leads one conversation of two people through its whole life, with
// every endpoint of the clients' API, checks each answer, and lets the people
// leave again.
//
// It sees nothing but the clients' port, and does not know how many nodes are
// behind it, whether they use actors, or what stores the conversation. It is
// no load test: a run is some twenty requests, one after another. What stays
// behind is one conversation with one member.
package smoke
