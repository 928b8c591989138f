package peer

import (
	"bytes"

	"catbird/conversation"
)

// Fields of the commands; those of one name mean the same in each.
const (
	cmdCommit     = 1
	cmdExpected   = 2
	cmdDID        = 3
	cmdWelcome    = 4
	cmdKeyPackage = 5
	cmdTarget     = 6
	cmdCiphertext = 7
	cmdEpoch      = 8
	cmdClientID   = 9
	cmdEmbedType  = 10
	cmdEmbedURI   = 11

	refDID  = 1
	refHash = 2
)

// Limits of what a command may repeat: well above the API's, so that a neighbour
// with larger ones is understood, and low enough that a frame cannot take many
// times its own size in memory.
const (
	maxDIDs = 4096
	maxRefs = 16384
	// maxConvos bounds an offer, a take, and what is accepted of one.
	maxConvos = 4096
)

// commandField returns the field that holds c; 0 for a command that this
// version cannot send.
func commandField(c conversation.Command) int {
	switch c.(type) {
	case conversation.AddMembers:
		return fieldAddMembers
	case conversation.Leave:
		return fieldLeave
	case conversation.Commit:
		return fieldCommit
	case conversation.Send:
		return fieldSend
	default:
		return 0
	}
}

func appendCommand(b []byte, c conversation.Command) []byte {
	b, start := beginNested(b, commandField(c))
	switch c := c.(type) {
	case conversation.AddMembers:
		for _, did := range c.DIDs {
			b = appendElement(b, cmdDID, did)
		}
		b = appendBytes(b, cmdCommit, c.Commit)
		b = appendBytes(b, cmdWelcome, c.Welcome)
		for _, ref := range c.KeyPackages {
			b = appendRef(b, ref)
		}
		b = appendOptInt(b, cmdExpected, c.Expected)
	case conversation.Leave:
		b = appendString(b, cmdTarget, c.Target)
		b = appendBytes(b, cmdCommit, c.Commit)
		b = appendOptInt(b, cmdExpected, c.Expected)
	case conversation.Commit:
		b = appendBytes(b, cmdCommit, c.Commit)
		b = appendOptInt(b, cmdExpected, c.Expected)
	case conversation.Send:
		b = appendBytes(b, cmdCiphertext, c.Ciphertext)
		b = appendInt(b, cmdEpoch, c.Epoch)
		b = appendString(b, cmdClientID, c.ClientID)
		b = appendString(b, cmdEmbedType, c.EmbedType)
		b = appendString(b, cmdEmbedURI, c.EmbedURI)
	}
	return endNested(b, start)
}

func appendRef(b []byte, ref conversation.KeyPackageRef) []byte {
	b, start := beginNested(b, cmdKeyPackage)
	b = appendString(b, refDID, ref.DID)
	b = appendBytes(b, refHash, ref.Hash)
	return endNested(b, start)
}

func commandSize(c conversation.Command) int {
	const element = 16
	switch c := c.(type) {
	case conversation.AddMembers:
		n := len(c.Commit) + len(c.Welcome)
		for _, did := range c.DIDs {
			n += element + len(did)
		}
		for _, ref := range c.KeyPackages {
			n += 2*element + len(ref.DID) + len(ref.Hash)
		}
		return n
	case conversation.Leave:
		return len(c.Target) + len(c.Commit)
	case conversation.Commit:
		return len(c.Commit)
	case conversation.Send:
		return len(c.Ciphertext) + len(c.ClientID) + len(c.EmbedType) + len(c.EmbedURI)
	default:
		return 0
	}
}

// command gathers the fields of all commands; which of them it was is known by
// the field that held it.
type command struct {
	commit, welcome, ciphertext           []byte
	expected                              *int64
	dids                                  []string
	refs                                  []conversation.KeyPackageRef
	target, clientID, embedType, embedURI string
	epoch                                 int64
}

// decodeCommand reads the command that d stands at. owned is as in
// decodeQuestion.
func decodeCommand(d *decoder, owned bool) conversation.Command {
	field := d.field
	in := decoder{rest: d.view()}
	var c command
	for in.next() {
		c.decodeField(&in, owned)
	}
	if in.err != nil {
		d.err = in.err
		return nil
	}
	switch field {
	case fieldAddMembers:
		return conversation.AddMembers{
			DIDs: c.dids, Commit: c.commit, Welcome: c.welcome, KeyPackages: c.refs, Expected: c.expected,
		}
	case fieldLeave:
		return conversation.Leave{Target: c.target, Commit: c.commit, Expected: c.expected}
	case fieldCommit:
		return conversation.Commit{Commit: c.commit, Expected: c.expected}
	default:
		return conversation.Send{
			Ciphertext: c.ciphertext, Epoch: c.epoch, ClientID: c.clientID, EmbedType: c.embedType, EmbedURI: c.embedURI,
		}
	}
}

func (c *command) decodeField(d *decoder, owned bool) {
	switch d.field {
	case cmdCommit:
		c.commit = keep(d, owned)
	case cmdExpected:
		c.expected = d.optInt()
	case cmdDID:
		if d.limit(len(c.dids), maxDIDs) {
			c.dids = append(c.dids, d.string())
		}
	case cmdWelcome:
		c.welcome = keep(d, owned)
	case cmdKeyPackage:
		if d.limit(len(c.refs), maxRefs) {
			c.refs = append(c.refs, decodeRef(d))
		}
	case cmdTarget:
		c.target = d.string()
	case cmdCiphertext:
		c.ciphertext = keep(d, owned)
	case cmdEpoch:
		c.epoch = d.int()
	case cmdClientID:
		c.clientID = d.string()
	case cmdEmbedType:
		c.embedType = d.string()
	case cmdEmbedURI:
		c.embedURI = d.string()
	}
}

func decodeRef(d *decoder) (ref conversation.KeyPackageRef) {
	in := decoder{rest: d.view()}
	for in.next() {
		switch in.field {
		case refDID:
			ref.DID = in.string()
		case refHash:
			ref.Hash = bytes.Clone(in.view())
		}
	}
	if in.err != nil && d.err == nil {
		d.err = in.err
	}
	return ref
}

// keep returns the bytes that d stands at, to be kept.
func keep(d *decoder, owned bool) []byte {
	if owned {
		return d.view()
	}
	return bytes.Clone(d.view())
}
