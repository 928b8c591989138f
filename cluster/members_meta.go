package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"
)

// A node's metadata is what gossip carries of it besides addresses: a list of
// fields, each a tag byte, a length byte and that many bytes of value, after
// one byte that tells it from strangers' metadata. Fields with unknown tags
// are skipped, so newer nodes may add some; values longer than they need be
// are read as far as known.
//
// 512 bytes is the library's limit. The longest metadata is 2 + 128 + 255 + 64
// bytes of text and less than 40 bytes of the rest.
const (
	metaMark = 0xCB

	tagName     = 1 // text
	tagStarted  = 2 // microseconds since 1970, 8 bytes big endian
	tagState    = 3 // a MemberState
	tagFlags    = 4 // bits, see below
	tagRollout  = 5 // percent
	tagInternal = 6 // text, host:port
	tagVersion  = 7 // text

	flagActors  = 1 << 0
	flagUnsure  = 1 << 1 // has not yet made sure that its name is free
	maxName     = 128
	maxAddress  = 255
	maxVersion  = 64
	metaMaxSize = 512
)

// life is one life of a node as its metadata describes it.
type life struct {
	Member
	// unsure: the node has not yet asked whether its name is free. Such a life
	// never takes the place of another of the same name.
	unsure bool
}

// lifeStart returns t as metadata carries it, so that times compare with ==.
func lifeStart(t time.Time) time.Time { return time.UnixMicro(t.UnixMicro()).UTC() }

// encode returns the metadata; l is valid. What is too long in the version is
// cut off.
func (l life) encode() []byte {
	b := make([]byte, 1, 128)
	b[0] = metaMark
	field := func(tag byte, v ...byte) { b = append(append(b, tag, byte(len(v))), v...) }
	var flags byte
	if l.ActorsEnabled {
		flags |= flagActors
	}
	if l.unsure {
		flags |= flagUnsure
	}
	field(tagName, []byte(l.Name)...)
	field(tagStarted, binary.BigEndian.AppendUint64(nil, uint64(l.Started.UnixMicro()))...)
	field(tagState, byte(l.State))
	field(tagFlags, flags)
	field(tagRollout, byte(l.RolloutPercent))
	field(tagInternal, []byte(l.InternalAddress)...)
	field(tagVersion, []byte(l.Version[:min(len(l.Version), maxVersion)])...)
	return b
}

// decodeLife reads metadata that may come from anybody. The result holds no
// part of meta.
func decodeLife(meta []byte) (life, error) {
	if len(meta) == 0 || len(meta) > metaMaxSize || meta[0] != metaMark {
		return life{}, errors.New("not metadata of a node of ours")
	}
	var l life
	for rest := meta[1:]; len(rest) > 0; {
		if len(rest) < 2 || len(rest) < 2+int(rest[1]) {
			return life{}, errors.New("a field is cut off")
		}
		value := rest[2 : 2+int(rest[1])]
		if err := l.set(rest[0], value); err != nil {
			return life{}, err
		}
		rest = rest[2+len(value):]
	}
	if l.Started.IsZero() || l.State == 0 {
		return life{}, errors.New("start or state is missing")
	}
	return l, l.check()
}

func (l *life) set(tag byte, v []byte) error {
	switch tag {
	case tagName:
		l.Name = string(v)
	case tagInternal:
		l.InternalAddress = string(v)
	case tagVersion:
		l.Version = string(v)
	case tagStarted:
		if len(v) < 8 {
			return errors.New("start is too short")
		}
		l.Started = lifeStart(time.UnixMicro(int64(binary.BigEndian.Uint64(v))))
	case tagState, tagFlags, tagRollout:
		if len(v) < 1 {
			return fmt.Errorf("field %d is empty", tag)
		}
		l.setByte(tag, v[0])
	}
	return nil
}

func (l *life) setByte(tag, v byte) {
	switch tag {
	case tagState:
		l.State = MemberState(v)
		if l.State != Ready && l.State != Leaving {
			l.State = Joining // also what a newer node may add: it owns nothing
		}
	case tagFlags:
		l.ActorsEnabled, l.unsure = v&flagActors != 0, v&flagUnsure != 0
	case tagRollout:
		l.RolloutPercent = int(min(v, 100))
	}
}

// check refuses what could do harm further on: in keys, URLs, logs or labels.
func (l life) check() error {
	if err := checkName(l.Name); err != nil {
		return err
	}
	if l.InternalAddress != "" {
		if err := checkAddress(l.InternalAddress); err != nil {
			return err
		}
	}
	if year := l.Started.Year(); year < 1970 || year > 2200 {
		return errors.New("start is out of range")
	}
	if l.RolloutPercent < 0 || l.RolloutPercent > 100 {
		return fmt.Errorf("rollout percent %d is not within 0 to 100", l.RolloutPercent)
	}
	if !plainText(l.Version) {
		return errors.New("version is not printable ASCII")
	}
	return nil
}

func checkName(name string) error {
	if name == "" || len(name) > maxName || !plainText(name) {
		return fmt.Errorf("node name must be 1 to %d characters of printable ASCII without spaces", maxName)
	}
	return nil
}

func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || len(address) > maxAddress || !plainText(address) {
		return errors.New("internal address is not host:port")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return errors.New("internal address has no valid port")
	}
	return nil
}

// plainText reports whether s is printable ASCII without spaces.
func plainText(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}
