package conversation

import "time"

// Limits of the client API. Sizes are in bytes of the decoded value.
const (
	MaxGroupID          = 128 // characters of hex
	MaxInitialMembers   = 100
	MaxAddMembers       = 50
	MaxName             = 128 // characters
	MaxDescription      = 512 // characters
	MaxMessage          = 10 << 20
	MaxCommit           = 10 << 20
	MaxWelcome          = 10 << 20
	MaxKeyPackage       = 64 << 10
	MaxKeyPackages      = 100 // unconsumed, per DID and cipher suite
	MaxKeyPackageDIDs   = 100 // asked for at once
	KeyPackagesPerDID   = 5   // answered at once, per DID and cipher suite
	MaxKeyPackageHashes = 500 // named by one change
	MaxKeyPackageLife   = 90 * 24 * time.Hour
	MaxClientID         = 64   // characters of a msgId
	MaxIdempotencyKey   = 256  // characters
	MaxDID              = 512  // characters
	MaxEmbedType        = 64   // characters
	MaxEmbedURI         = 2048 // characters
	MaxPage             = 100
	DefaultPage         = 50
	MaxCommits          = 500
	MaxAnswer           = 16 << 20 // bytes of payload in one answer
	MaxMissedCommits    = 100      // carried by an EpochMismatch
	MaxMissedBytes      = 4 << 20
)

// Policy is what an operator sets about conversations. The zero value is not
// useful; start from [DefaultPolicy].
type Policy struct {
	// MaxMembers is how many active members a conversation may have.
	MaxMembers int
	// AnyMemberRemoves lets every member remove others, as MLS itself does;
	// false leaves that to the creator.
	AnyMemberRemoves bool
	// Retention is how long an application message is kept; 0 keeps it for
	// ever.
	Retention time.Duration
}

// DefaultPolicy returns 1,000 members, removal by the creator, 720 hours.
func DefaultPolicy() Policy {
	return Policy{MaxMembers: 1000, Retention: 720 * time.Hour}
}

// CipherSuites are the names that a client may give: the seven of RFC 9420
// section 17.1 and the X-Wing hybrid.
var CipherSuites = map[string]uint16{
	"MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519":        0x0001,
	"MLS_128_DHKEMP256_AES128GCM_SHA256_P256":             0x0002,
	"MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519": 0x0003,
	"MLS_256_DHKEMX448_AES256GCM_SHA512_Ed448":            0x0004,
	"MLS_256_DHKEMP521_AES256GCM_SHA512_P521":             0x0005,
	"MLS_256_DHKEMX448_CHACHA20POLY1305_SHA512_Ed448":     0x0006,
	"MLS_256_DHKEMP384_AES256GCM_SHA384_P384":             0x0007,
	"MLS_256_XWING_CHACHA20POLY1305_SHA256_Ed25519":       0x004D,
}
