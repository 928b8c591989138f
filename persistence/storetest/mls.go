package storetest

import (
	"encoding/binary"
	"encoding/hex"

	"catbird/conversation"
)

// mlsCommit returns bytes with the header of an MLS commit (RFC 9420 section 6:
// version 1, private message, group id, epoch, content type) that convo takes
// at epoch.
func mlsCommit(convo string, epoch int64) []byte {
	return mlsMessage(convo, epoch, conversation.ContentCommit)
}

func mlsMessage(convo string, epoch int64, kind conversation.ContentType) []byte {
	group, err := hex.DecodeString(convo)
	if err != nil || len(group) > 63 {
		panic("storetest: no MLS group id: " + convo)
	}
	b := []byte{0, 1, 0, 2, byte(len(group))}
	b = append(b, group...)
	b = binary.BigEndian.AppendUint64(b, uint64(epoch))
	b = append(b, byte(kind))
	return append(b, "opaque rest"...)
}

// mlsHeld returns a claimed conversation that is an MLS group at epoch 1.
func (f *fixture) mlsHeld(creator string, initial ...string) *hold {
	f.t.Helper()
	h := f.held(creator, initial...)
	h.do(creator, conversation.Commit{Commit: mlsCommit(h.convo, 0)})
	equal(f, h.state.MLS, true, "an MLS group")
	return h
}
