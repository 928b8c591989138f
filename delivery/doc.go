// Package delivery decides, request by request, where a change of a
// conversation runs: through its actor in this process, straight against the
// database, or with whoever holds it; and it keeps asking, until the request's
// deadline, while a conversation is on the move.
//
// It holds the feature flag, the share of conversations that are served by
// actors, and what is served directly for a while because two servers cannot
// reach each other. It knows neither HTTP nor SQL, and nothing of what a
// command does.
package delivery
