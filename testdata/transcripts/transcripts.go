// Package transcripts holds two conversations that were recorded from a real
// MLS (RFC 9420) client: every byte string is what that client put on the
// wire, and every epoch is the one it was in.
//
// Small is 4 people and 12 steps, Large 40 people and 121 steps; both hold
// additions, removals and a former member's absence from what follows. The
// people of the two are different ones, so both can be on one server.
//
// The package only loads and checks the files. Replaying them is the business
// of package internal/replay.
package transcripts

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Op is what a step does, in the words of the client API.
type Op string

// The operations that a step may be.
const (
	CreateConvo Op = "createConvo"
	AddMembers  Op = "addMembers"
	LeaveConvo  Op = "leaveConvo"
	SendMessage Op = "sendMessage"
)

// Transcript is one recorded conversation.
type Transcript struct {
	// Name tells transcripts apart in output; it is not part of the file.
	Name string `json:"-"`

	Description string   `json:"description"`
	CipherSuite string   `json:"cipherSuite"`
	GroupID     string   `json:"groupId"` // hex, lower case
	People      []Person `json:"people"`
	Steps       []Step   `json:"steps"`
}

// Person is somebody who is a member at some time, with the key packages they
// publish before the first step, in that order.
type Person struct {
	DID         string       `json:"did"`
	KeyPackages []KeyPackage `json:"keyPackages"`
}

// KeyPackage is an MLSMessage that holds a KeyPackage (RFC 9420 section 10).
type KeyPackage struct {
	Data   []byte `json:"data"`
	SHA256 string `json:"sha256"` // of Data, hex
}

// KeyPackageHash names a key package that a step uses up.
type KeyPackageHash struct {
	DID  string `json:"did"`
	Hash string `json:"hash"` // SHA-256, hex
}

// Step is one request, made when the one before had been answered.
type Step struct {
	Op Op     `json:"op"`
	By string `json:"by"` // the DID of the caller

	// EpochBefore and EpochAfter are the epochs a change leads from and to;
	// createConvo has EpochAfter only.
	EpochBefore int64 `json:"epochBefore"`
	EpochAfter  int64 `json:"epochAfter"`
	// Epoch is that of a message.
	Epoch int64 `json:"epoch"`

	DIDs      []string `json:"didList"`   // addMembers
	TargetDID string   `json:"targetDid"` // leaveConvo

	Commit           []byte           `json:"commit"`
	Welcome          []byte           `json:"welcomeMessage"` // for everybody in DIDs
	KeyPackageHashes []KeyPackageHash `json:"keyPackageHashes"`
	Ciphertext       []byte           `json:"ciphertext"` // sendMessage

	// Plaintext is what the ciphertext decrypts to. No server ever sees it.
	Plaintext string `json:"plaintext"`
}

//go:embed small.json
var small []byte

//go:embed large.json
var large []byte

// Small returns the conversation of 4 people, a fresh copy at each call.
func Small() *Transcript { return mustParse("small", small) }

// Large returns the conversation of 40 people, a fresh copy at each call.
func Large() *Transcript { return mustParse("large", large) }

// All returns Small and Large.
func All() []*Transcript { return []*Transcript{Small(), Large()} }

// mustParse panics where a file that was built in is damaged; a test loads
// both.
func mustParse(name string, b []byte) *Transcript {
	t, err := Parse(name, bytes.NewReader(b))
	if err != nil {
		panic(err)
	}
	return t
}

// Parse reads a transcript and checks that it is whole: fields that this
// package does not know are an error, so that nothing recorded is skipped
// unnoticed.
func Parse(name string, r io.Reader) (*Transcript, error) {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	t := &Transcript{Name: name}
	if err := d.Decode(t); err != nil {
		return nil, fmt.Errorf("read transcript %s: %w", name, err)
	}
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("check transcript %s: %w", name, err)
	}
	return t, nil
}

func (t *Transcript) check() error {
	if _, err := hex.DecodeString(t.GroupID); err != nil || t.GroupID == "" {
		return errors.New("groupId is not hexadecimal")
	}
	if len(t.Steps) == 0 || t.Steps[0].Op != CreateConvo {
		return errors.New("does not begin with createConvo")
	}
	owner := make(map[string]string) // hash to DID
	people := make(map[string]bool)
	for _, p := range t.People {
		if people[p.DID] {
			return fmt.Errorf("%s is there twice", p.DID)
		}
		people[p.DID] = true
		for i, k := range p.KeyPackages {
			if sum := sha256.Sum256(k.Data); hex.EncodeToString(sum[:]) != k.SHA256 {
				return fmt.Errorf("key package %d of %s does not have its hash", i, p.DID)
			}
			owner[k.SHA256] = p.DID
		}
	}
	epoch := t.Steps[0].EpochAfter
	for i := range t.Steps {
		s := &t.Steps[i]
		if err := s.check(people, owner); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
		if i > 0 && s.Op == CreateConvo {
			return fmt.Errorf("step %d: creates the conversation again", i)
		}
		if i > 0 && s.builtOn() != epoch {
			return fmt.Errorf("step %d: is made at epoch %d, but the conversation is at %d", i, s.builtOn(), epoch)
		}
		if s.Op == AddMembers || s.Op == LeaveConvo {
			epoch = s.EpochAfter
		}
	}
	return nil
}

func (s *Step) builtOn() int64 {
	if s.Op == SendMessage {
		return s.Epoch
	}
	return s.EpochBefore
}

func (s *Step) check(people map[string]bool, owner map[string]string) error {
	if !people[s.By] {
		return fmt.Errorf("%q is not among the people", s.By)
	}
	switch s.Op {
	case CreateConvo:
		return nil
	case SendMessage:
		if len(s.Ciphertext) == 0 {
			return errors.New("has no ciphertext")
		}
		return nil
	case LeaveConvo:
		if s.TargetDID != "" && !people[s.TargetDID] {
			return fmt.Errorf("%q is not among the people", s.TargetDID)
		}
	case AddMembers:
		for _, did := range s.DIDs {
			if !people[did] {
				return fmt.Errorf("%q is not among the people", did)
			}
		}
		for _, h := range s.KeyPackageHashes {
			if !slices.Contains(s.DIDs, h.DID) || owner[h.Hash] != h.DID {
				return fmt.Errorf("key package %s is not one that %s published", h.Hash, h.DID)
			}
		}
	default:
		return fmt.Errorf("unknown operation %q", s.Op)
	}
	if len(s.Commit) == 0 || s.EpochAfter != s.EpochBefore+1 {
		return errors.New("must have a commit that leads to the next epoch")
	}
	return nil
}
