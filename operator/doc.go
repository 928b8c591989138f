// Package operator is the operators' HTTP API on the internal port: the cluster
// as a node knows it and who holds a conversation, what the node holds, its
// flags, one conversation's overview, the state of the data, and how to make a
// node leave. Whoever asks must know the cluster's secret, where one is set.
//
// It never shows a ciphertext or a secret. It does not know SQL, actors, gossip,
// Redis or how requests are delivered: it asks for the few methods it needs.
package operator
