package conversation

import (
	"encoding/hex"
	"strings"
)

// ParseGroupID checks the id that a client gives a new conversation, the MLS
// group id in hex, and returns it in the form that is stored: lower case.
func ParseGroupID(s string) (string, error) {
	if s == "" || len(s) > MaxGroupID {
		return "", Refuse(InvalidRequest, "groupId: must be 2 to %d hexadecimal characters", MaxGroupID)
	}
	if _, err := hex.DecodeString(s); err != nil {
		return "", Refuse(InvalidRequest, "groupId: must be hexadecimal, two characters a byte")
	}
	return strings.ToLower(s), nil
}

// ParseConvoID checks an id that a client uses to name a conversation. Ids
// that are hexadecimal are folded to lower case; others, which databases from
// before hold, are taken as they are.
func ParseConvoID(s string) (string, error) {
	if s == "" || len(s) > 2*MaxGroupID {
		return "", Refuse(InvalidRequest, "convoId: must be 1 to %d characters", 2*MaxGroupID)
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f {
			return "", Refuse(InvalidRequest, "convoId: must be printable ASCII without spaces")
		}
	}
	if _, err := hex.DecodeString(s); err == nil {
		return strings.ToLower(s), nil
	}
	return s, nil
}

// CheckDID reports whether s is a DID in the syntax of the AT Protocol, with
// an optional #fragment that names a device.
func CheckDID(s string) bool {
	if len(s) > MaxDID {
		return false
	}
	did, fragment, hasFragment := strings.Cut(s, "#")
	if hasFragment && !didText(fragment) {
		return false
	}
	rest, ok := strings.CutPrefix(did, "did:")
	if !ok {
		return false
	}
	method, id, ok := strings.Cut(rest, ":")
	if !ok || method == "" || !didText(id) {
		return false
	}
	for _, c := range []byte(method) {
		if c < 'a' || c > 'z' {
			return false
		}
	}
	last := id[len(id)-1]
	return last != ':' && last != '%'
}

func didText(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '.', c == '_', c == ':', c == '%', c == '-':
		default:
			return false
		}
	}
	return s != ""
}
