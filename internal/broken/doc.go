// Package broken holds the switches of variants of the service in which one
// rule of docs/architecture.md is left out. They exist to try the checkers that
// are to notice: a checker that misses one of them proves nothing of the service
// as it is.
//
// Without the build tag "broken" [Is] is the constant false, the compiler
// removes what depends on it, and a program holds no trace of any of it. With
// the tag one variant may be switched on at a time, for the whole process.
//
// The package knows only the names of the variants. What each leaves out stands
// where the rule is kept.
package broken

// Variant is one rule left out.
type Variant int32

// The variants.
const (
	// None is the service as it is.
	None Variant = iota
	// AppendWithoutFence: an append fits whatever the fence is (rule 8).
	AppendWithoutFence
	// ReadWithoutDeadline: memory is believed for ever (rule 11).
	ReadWithoutDeadline
	// CurrentSessionsDeadline: memory is believed as long as the session that the
	// node has now, not the one it was loaded under (rule 11).
	CurrentSessionsDeadline
	// NoSilence: memory answers while a change is on its way (rule 12).
	NoSilence
	// ReloadKeepsFence: claiming one's own claim anew raises no fence (rule 7).
	ReloadKeepsFence
	// PrivateJudgement: whoever seems to stand still is ended, whether it still
	// does or not (rule 3).
	PrivateJudgement
	// DirectIgnoresClaim: a direct write asks for no holder (rule 14).
	DirectIgnoresClaim
	// RetryWithoutIDs: what is tried again is a new change each time (rule 19).
	RetryWithoutIDs
	// RetryTellsRefusals: after an attempt whose outcome is unknown, any refusal
	// of a later one is told (rule 19).
	RetryTellsRefusals
	// ReleaseWithoutFence: a claim is given back whatever its fence is (rule 9).
	ReleaseWithoutFence
)
