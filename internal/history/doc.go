// Package history keeps what clients saw of conversations, and says whether it
// was right.
//
// A [Recorder] takes down what clients asked and were told, each request with
// the instants between which it must have taken effect. [Check] holds that to
// what the service promises: there is one order of all requests of a
// conversation in which a single copy, doing one thing after another, would
// have given the same answers (it is linearizable); and of the nodes that serve
// a conversation from memory there is one at a time, each with a higher fence
// than the one before ([Tenure]). A history that is wrong is reduced to a
// smallest one that is wrong for the same reason, and drawn.
//
// A request that was not answered may have taken effect at any time after it
// was made, or never. So may one that was answered with
// [conversation.OutcomeUnknown]. What was refused did not take effect.
//
// The package does not make requests, does not know how the service works, and
// looks into no database. It knows conversations whose commits are opaque
// bytes: not the rules for MLS groups, where a change may come without a
// commit. Nothing may expire while a history is recorded.
package history
