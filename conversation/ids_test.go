package conversation_test

import (
	"strings"
	"testing"

	"catbird/conversation"
)

func TestParseGroupID(t *testing.T) {
	tests := []struct {
		in, want string
		code     conversation.Code
	}{
		{"00", "00", ""},
		{"67726f7570", "67726f7570", ""},
		{"ABcdEF", "abcdef", ""},
		{strings.Repeat("a", 128), strings.Repeat("a", 128), ""},
		{strings.Repeat("a", 130), "", conversation.InvalidRequest},
		{"", "", conversation.InvalidRequest},
		{"abc", "", conversation.InvalidRequest},
		{"xy", "", conversation.InvalidRequest},
		{"ab cd", "", conversation.InvalidRequest},
		{"0x0a", "", conversation.InvalidRequest},
		{"ａａ", "", conversation.InvalidRequest},
	}
	for _, tt := range tests {
		got, err := conversation.ParseGroupID(tt.in)
		if got != tt.want || conversation.CodeOf(err) != tt.code {
			t.Errorf("ParseGroupID(%q) = %q, %v; want %q, code %q", tt.in, got, err, tt.want, tt.code)
		}
	}
}

func TestParseConvoID(t *testing.T) {
	tests := []struct {
		in, want string
		code     conversation.Code
	}{
		{"ABcd", "abcd", ""},
		{"abc", "abc", ""}, // not hexadecimal: half a byte
		{"ABC", "ABC", ""}, // so its case stands
		{"Convo-1", "Convo-1", ""},
		{"7c9e6679-7425-40de-944b-e07fc1f90ae7", "7c9e6679-7425-40de-944b-e07fc1f90ae7", ""},
		{strings.Repeat("a", 256), strings.Repeat("a", 256), ""},
		{strings.Repeat("a", 257), "", conversation.InvalidRequest},
		{"", "", conversation.InvalidRequest},
		{"a b", "", conversation.InvalidRequest},
		{"a\x00", "", conversation.InvalidRequest},
		{"é", "", conversation.InvalidRequest},
	}
	for _, tt := range tests {
		got, err := conversation.ParseConvoID(tt.in)
		if got != tt.want || conversation.CodeOf(err) != tt.code {
			t.Errorf("ParseConvoID(%q) = %q, %v; want %q, code %q", tt.in, got, err, tt.want, tt.code)
		}
	}
}

func TestCheckDID(t *testing.T) {
	tests := map[string]bool{
		"did:plc:z72i7hdynmk6r22z27h6tvur":        true,
		"did:web:example.com":                     true,
		"did:web:localhost%3A8080":                true,
		"did:web:example.com:users:a_b":           true,
		"did:key:zQ3shZc2QzApp2oymGvQbzP8eKheVsh": true,
		"did:plc:abc#device-1":                    true,
		"did:plc:" + strings.Repeat("a", 504):     true,

		"did:plc:" + strings.Repeat("a", 505): false,
		"":                                    false,
		"did":                                 false,
		"did:":                                false,
		"did:plc":                             false,
		"did:plc:":                            false,
		"did::abc":                            false,
		"did:PLC:abc":                         false,
		"DID:plc:abc":                         false,
		"did:p1c:abc":                         false,
		"did:plc:abc:":                        false,
		"did:plc:abc%":                        false,
		"did:plc:a b":                         false,
		"did:plc:a/b":                         false,
		"did:plc:a?b":                         false,
		"did:plc:é":                           false,
		"did:plc:abc#":                        false,
		"did:plc:abc#a#b":                     false,
		"did:plc:abc\x00":                     false,
		" did:plc:abc":                        false,
	}
	for in, want := range tests {
		if got := conversation.CheckDID(in); got != want {
			t.Errorf("CheckDID(%q) = %v, want %v", in, got, want)
		}
	}
}
