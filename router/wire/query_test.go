package wire

import (
	"net/url"
	"reflect"
	"strings"
	"testing"
)

type question struct {
	ConvoID string   `json:"convoId" xrpc:"required"`
	Limit   *int64   `json:"limit"`
	From    int64    `json:"from"`
	DIDs    []string `json:"dids"`
	Full    bool     `json:"full"`
	Maybe   *bool    `json:"maybe"`
}

var questionQuery = NewQuery[question]()

func TestDecodeQuery(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		query string
		want  question
	}{
		"plain":               {"convoId=ab&limit=5&from=-3&full=true&maybe=false", question{ConvoID: "ab", Limit: ptr[int64](5), From: -3, Full: true, Maybe: ptr(false)}},
		"lists repeat":        {"dids=did:plc:a&convoId=x&dids=did%3Aplc%3Ab", question{ConvoID: "x", DIDs: []string{"did:plc:a", "did:plc:b"}}},
		"escapes":             {"convo%49d=a%2Fb+c%23", question{ConvoID: "a/b c#"}},
		"unknown":             {"x=1&convoId=a&y=%zz&LIMIT=9&&=&z", question{ConvoID: "a"}},
		"no value is absent":  {"convoId=a&limit=&from&dids=", question{ConvoID: "a"}},
		"equals in the value": {"convoId=a=b", question{ConvoID: "a=b"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got question
			if err := questionQuery.Decode(tt.query, &got); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestDecodeQueryRefuses(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		"":                                    "convoId: is required",
		"convoId=":                            "convoId: is required",
		"convoId=a&convoId=a":                 "convoId: is given twice",
		"convoId=a&limit=ten":                 "limit: must be an integer",
		"convoId=a&limit=1.0":                 "limit: must be an integer",
		"convoId=a&limit=-":                   "limit: must be an integer of 64 bits",
		"convoId=a&limit=%2B1":                "limit: must be an integer",
		"convoId=a&from=99999999999999999999": "from: must be an integer of 64 bits",
		"convoId=a&full=1":                    "full: must be true or false",
		"convoId=a%00":                        "convoId: must not hold a NUL character",
		"convoId=a%ff":                        "convoId: must be valid Unicode",
		"convoId=a%f":                         "convoId: is not escaped as a query must be",
		"convoId=a&dids=x&dids=%00":           "dids: must not hold a NUL character",
	} {
		var got question
		if err := questionQuery.Decode(query, &got); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", query, err, want)
		}
	}
}

// FuzzQuery holds the decoder to net/url.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{"convoId=a&limit=5", "dids=a&dids=b&convoId=c", "convoId=%41+b", "a=b;c=d", "convoId"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var got question
		if questionQuery.Decode(s, &got) != nil || strings.Contains(s, ";") { // net/url refuses semicolons
			return
		}
		want, _ := url.ParseQuery(s) // what it can read of parameters we do not know
		if got.ConvoID != want.Get("convoId") && want.Get("convoId") != "" {
			t.Fatalf("%q: convoId %q, net/url says %q", s, got.ConvoID, want.Get("convoId"))
		}
		var dids []string
		for _, did := range want["dids"] {
			if did != "" {
				dids = append(dids, did)
			}
		}
		if !reflect.DeepEqual(got.DIDs, dids) {
			t.Fatalf("%q: dids %q, net/url says %q", s, got.DIDs, dids)
		}
	})
}
