// Package peer is how one node asks another: "do this to that conversation" or
// "at which epoch is it", over HTTP on the internal port.
//
// # Asking
//
// [Client.Ask] sends a [Question] to the node at an address and returns its
// [Answer]: served, refused, not mine (with who holds the conversation, where
// that is known) or moving. The package never asks again by itself and follows
// no pointer to another node; that is for the caller, who alone knows what may
// be repeated. What the caller needs for it is in the errors: [ErrUnreachable],
// [ErrBusy] and [ErrUnsupported] are certain, the other node's [Handler] has not
// seen the question; [ErrLost] says that it may have.
//
// # Transport
//
// To each peer leads one connection, opened with the first question: an HTTP/1.1
// request that is upgraded ("Upgrade: catbird-peer") to a stream of
// length-prefixed frames both ways. Questions and answers carry an id, so any
// number of them are under way at once, in any order. Whatever queued up while
// the last write ran goes out together in the next one; there are no timers.
// Questions larger than 64 KiB take a second connection, so that a large message
// never stands in the way of small ones. (Measured on two cores with 64 callers,
// an upgraded connection carries 1.8 to 2.5 times as many frames as a
// full-duplex HTTP/2 stream, which passes every byte through three more
// goroutines; and it tells exactly what was never written, which HTTP/2's
// buffers hide.)
//
// A peer that answers the upgrade with a status of 4xx, because it speaks no
// version of the stream that we do or because something in between allows no
// upgrades, is asked by plain requests for a minute, one question each.
//
// # Keys
//
// Everything is authenticated and encrypted under the cluster's secret, which
// never crosses the wire. The opening request carries the client's hello: its
// name, the versions it speaks, a fresh X25519 key, and an HMAC-SHA-256 over
// them. Without a right one the answer is 401 and nothing else, also to a hello
// that was seen before. The server's hello answers with the same, its MAC
// covering both. The two directions' AES-256-GCM keys come from the key exchange,
// the secret and everything that was said (HKDF-SHA-256); records are numbered,
// so that none can be forged, changed, repeated, left out or taken to another
// connection. AES-GCM was chosen over a bare MAC because with the processor's
// instructions it is also the faster: sealing 1 KiB takes 0.3 µs, its
// HMAC-SHA-256 0.7 µs. The caller's verified identity travels inside.
//
// # What it does not know
//
// The package knows the requests, results and errors of package conversation,
// not what they mean. It does not know the clients' API, the ring, actors or the
// database.
package peer
