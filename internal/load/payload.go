package load

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"

	"catbird/testdata/transcripts"
)

// identityBytes end every payload: the run, the conversation and the number of
// the change in it. They lie where an MLS message has the tag of its AEAD.
const identityBytes = 16

// identity tells one change from all others of all runs.
type identity struct {
	convo  uint32 // index
	serial uint32
}

// payloads makes the bytes of messages and commits. The same change has the same
// bytes whenever it is asked for, so that none need be kept to compare them. It
// is safe for use by several goroutines at once.
type payloads struct {
	run  [8]byte
	seed uint64
	size int // of random ones

	// What was recorded; nil for random payloads.
	messages, commits []recorded
	welcome           []byte
}

// recorded is an MLS message without what it says of its group and epoch.
type recorded struct {
	head []byte // version and wire format
	rest []byte // from the content type on
}

func newPayloads(kind Payload, run [8]byte, seed uint64, size int) (*payloads, error) {
	p := &payloads{run: run, seed: seed, size: size}
	if kind != MLS {
		return p, nil
	}
	for _, t := range transcripts.All() {
		if err := p.learn(t); err != nil {
			return nil, fmt.Errorf("the recorded group %s: %w", t.Name, err)
		}
	}
	return p, nil
}

// learn takes a recording's messages and commits apart.
func (p *payloads) learn(t *transcripts.Transcript) error {
	group, err := hex.DecodeString(t.GroupID)
	if err != nil {
		return err
	}
	for i, s := range t.Steps {
		for _, b := range [][]byte{s.Ciphertext, s.Commit} {
			if len(b) == 0 {
				continue
			}
			r, ok := takeApart(b, group)
			if !ok {
				return fmt.Errorf("step %d is no MLS message of the group", i)
			}
			if s.Op == transcripts.SendMessage {
				p.messages = append(p.messages, r)
			} else {
				p.commits = append(p.commits, r)
			}
		}
		if len(p.welcome) == 0 {
			p.welcome = s.Welcome
		}
	}
	return nil
}

// takeApart cuts group and epoch out of an MLSMessage (RFC 9420 section 6).
func takeApart(b, group []byte) (recorded, bool) {
	const wire = 4 // version and wire format
	middle := appendVector(nil, group)
	if len(b) < wire || !bytes.HasPrefix(b[wire:], middle) {
		return recorded{}, false
	}
	rest := b[wire+len(middle):]
	if len(rest) < 8+identityBytes+1 {
		return recorded{}, false
	}
	return recorded{head: b[:wire], rest: rest[8:]}, true
}

// appendVector appends v with a length prefix of variable size (RFC 9420
// section 2.1.2). Group ids are shorter than 16,384 bytes.
func appendVector(b, v []byte) []byte {
	if len(v) < 1<<6 {
		b = append(b, byte(len(v)))
	} else {
		b = binary.BigEndian.AppendUint16(b, 1<<14|uint16(len(v)))
	}
	return append(b, v...)
}

// message returns the bytes of the message id, sent at epoch.
func (p *payloads) message(group []byte, id identity, epoch int64) []byte {
	return p.make(p.messages, group, id, epoch)
}

// commit returns the bytes of the commit id, built on epoch.
func (p *payloads) commit(group []byte, id identity, epoch int64) []byte {
	return p.make(p.commits, group, id, epoch)
}

func (p *payloads) make(from []recorded, group []byte, id identity, epoch int64) []byte {
	var b []byte
	if len(from) == 0 {
		b = p.random(id)
	} else {
		r := from[int(id.serial)%len(from)]
		b = append(make([]byte, 0, len(r.head)+len(group)+10+len(r.rest)), r.head...)
		b = appendVector(b, group)
		b = binary.BigEndian.AppendUint64(b, uint64(epoch))
		b = append(b, r.rest...)
	}
	tail := b[len(b)-identityBytes:]
	copy(tail, p.run[:])
	binary.BigEndian.PutUint32(tail[8:], id.convo)
	binary.BigEndian.PutUint32(tail[12:], id.serial)
	return b
}

func (p *payloads) random(id identity) []byte {
	pcg := rand.NewPCG(p.seed^binary.BigEndian.Uint64(p.run[:]), uint64(id.convo)<<32|uint64(id.serial))
	b := make([]byte, p.size, p.size+8)
	for at := 0; at < p.size; at += 8 {
		binary.LittleEndian.PutUint64(b[at:at+8:cap(b)], pcg.Uint64())
	}
	b[0] = 0xff // never the header of an MLS message
	return b
}

// identify returns which change of this run b belongs to, if any.
func (p *payloads) identify(b []byte) (id identity, ok bool) {
	if len(b) < identityBytes {
		return id, false
	}
	tail := b[len(b)-identityBytes:]
	if !bytes.Equal(tail[:8], p.run[:]) {
		return id, false
	}
	return identity{binary.BigEndian.Uint32(tail[8:]), binary.BigEndian.Uint32(tail[12:])}, true
}
