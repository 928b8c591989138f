package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type entry struct {
	DID  string `json:"did" xrpc:"required"`
	Hash string `json:"hash"`
}

type sample struct {
	Text    string   `json:"text" xrpc:"required"`
	Number  int64    `json:"number"`
	Maybe   *int64   `json:"maybe"`
	Yes     bool     `json:"yes"`
	MaybeOK *bool    `json:"maybeOk"`
	Names   []string `json:"names"`
	Object  Base64   `json:"object"`
	Blob    Bytes    `json:"blob"`
	When    *Time    `json:"when"`
	Entries []entry  `json:"entries"`
	Inner   *entry   `json:"inner"`
}

var sampleBody = NewBody[sample]()

func ptr[T any](v T) *T { return &v }

func TestDecodeBody(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		body string
		want sample
	}{
		"one field":             {`{"text":"a"}`, sample{Text: "a"}},
		"space everywhere":      {" \r\n\t{ \"text\" :\n\"a\" , \"number\"\t: 7 } ", sample{Text: "a", Number: 7}},
		"escapes":               {`{"text":"\"\\\/\b\f\n\r\té\ud83d\ude00"}`, sample{Text: "\"\\/\b\f\n\r\té😀"}},
		"escaped name":          {`{"\u0074ext":"a"}`, sample{Text: "a"}},
		"utf-8":                 {`{"text":"zażółć 😀"}`, sample{Text: "zażółć 😀"}},
		"null is absent":        {`{"text":"a","maybe":null,"names":null,"blob":null,"inner":null}`, sample{Text: "a"}},
		"unknown fields":        {`{"x":{"y":[1,-2.5e+3,true,null,{"z":"\u0000\ud800"}]},"text":"a","":[]}`, sample{Text: "a"}},
		"names match exactly":   {`{"text":"a","TEXT":"b","Number":1}`, sample{Text: "a"}},
		"numbers":               {`{"text":"a","number":-9223372036854775808,"maybe":9223372036854775807}`, sample{Text: "a", Number: -1 << 63, Maybe: ptr[int64](1<<63 - 1)}},
		"zero given":            {`{"text":"a","maybe":0,"maybeOk":false}`, sample{Text: "a", Maybe: ptr[int64](0), MaybeOK: ptr(false)}},
		"true":                  {`{"text":"a","yes":true}`, sample{Text: "a", Yes: true}},
		"list":                  {`{"text":"a","names":["x","","y"]}`, sample{Text: "a", Names: []string{"x", "", "y"}}},
		"empty list":            {`{"text":"a","names":[ ]}`, sample{Text: "a"}},
		"objects":               {`{"text":"a","entries":[{"did":"d","hash":"h"},{"did":"e","more":1}],"inner":{"did":"i"}}`, sample{Text: "a", Entries: []entry{{"d", "h"}, {DID: "e"}}, Inner: &entry{DID: "i"}}},
		"base64 escaped slash":  {`{"text":"a","object":"\/\/\/\/"}`, sample{Text: "a", Object: Base64{255, 255, 255}}},
		"base64 empty":          {`{"text":"a","object":""}`, sample{Text: "a", Object: Base64{}}},
		"bytes":                 {`{"text":"a","blob":{"$bytes":"AQI="}}`, sample{Text: "a", Blob: Bytes{1, 2}}},
		"bytes unpadded":        {`{"text":"a","blob":{"$bytes":"AQI"}}`, sample{Text: "a", Blob: Bytes{1, 2}}},
		"bytes bare":            {`{"text":"a","blob":"AQI="}`, sample{Text: "a", Blob: Bytes{1, 2}}},
		"bytes with more in it": {`{"text":"a","blob":{"$type":"bytes","$bytes":"AQI="}}`, sample{Text: "a", Blob: Bytes{1, 2}}},
		"time":                  {`{"text":"a","when":"2026-01-02T03:04:05.678+01:00"}`, sample{Text: "a", When: &Time{time.Date(2026, 1, 2, 2, 4, 5, 678e6, time.UTC)}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := []byte(tt.body)
			var got sample
			if err := sampleBody.Decode(data, &got); err != nil {
				t.Fatal(err)
			}
			for i := range data {
				data[i] = 'x' // what was decoded must be its own
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestDecodeBodyRefuses(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 40) + strings.Repeat("]", 40)
	tests := map[string]struct{ body, want string }{
		"nothing":                 {``, "body: is not valid JSON"},
		"a list":                  {`[]`, "body: must be an object"},
		"null":                    {`null`, "body: must be an object"},
		"missing":                 {`{}`, "text: is required"},
		"null where required":     {`{"text":null}`, "text: is required"},
		"number for text":         {`{"text":1}`, "text: must be a string"},
		"object for text":         {`{"text":{"a":[1]}}`, "text: must be a string"},
		"text for number":         {`{"text":"a","number":"1"}`, "number: must be an integer"},
		"fraction":                {`{"text":"a","number":1.0}`, "number: must be an integer"},
		"exponent":                {`{"text":"a","number":1e3}`, "number: must be an integer"},
		"too large":               {`{"text":"a","number":9223372036854775808}`, "number: must be an integer of 64 bits"},
		"leading zero":            {`{"text":"a","number":01}`, "body: is not valid JSON"},
		"bare minus":              {`{"text":"a","number":-}`, "body: is not valid JSON"},
		"text for truth":          {`{"text":"a","yes":"true"}`, "yes: must be true or false"},
		"truth spelled wrong":     {`{"text":"a","yes":True}`, "body: is not valid JSON"},
		"twice":                   {`{"text":"a","text":"b"}`, "text: is given twice"},
		"null and again":          {`{"text":null,"text":"b"}`, "text: is given twice"},
		"text for list":           {`{"text":"a","names":"x"}`, "names: must be a list"},
		"number in list":          {`{"text":"a","names":["x",2]}`, "names[1]: must be a string"},
		"missing in object":       {`{"text":"a","entries":[{"did":"d"},{"hash":"h"}]}`, "entries[1].did: is required"},
		"wrong in object":         {`{"text":"a","inner":{"did":[]}}`, "inner.did: must be a string"},
		"text for object":         {`{"text":"a","inner":"x"}`, "inner: must be an object"},
		"not base64":              {`{"text":"a","object":"a*b="}`, "object: is not base64"},
		"object for base64":       {`{"text":"a","object":{"$bytes":"AQI="}}`, "object: must be a base64 string"},
		"not base64 in bytes":     {`{"text":"a","blob":{"$bytes":"*"}}`, "blob.$bytes: is not base64"},
		"bytes without bytes":     {`{"text":"a","blob":{}}`, "blob.$bytes: is required"},
		"number for bytes":        {`{"text":"a","blob":5}`, `blob: must be {"$bytes": base64}`},
		"no time":                 {`{"text":"a","when":"yesterday"}`, "when: must be an RFC 3339 time"},
		"number for time":         {`{"text":"a","when":5}`, "when: must be an RFC 3339 time"},
		"NUL":                     {`{"text":"a\u0000b"}`, "text: must not hold a NUL character"},
		"half a surrogate":        {`{"text":"\ud83d"}`, "text: must be valid Unicode"},
		"surrogates swapped":      {`{"text":"\ude00\ud83d"}`, "text: must be valid Unicode"},
		"not utf-8":               {"{\"text\":\"\xff\"}", "text: must be valid Unicode"},
		"control character":       {"{\"text\":\"a\nb\"}", "body: is not valid JSON"},
		"control in a name":       {"{\"te\nxt\":\"a\"}", "body: is not valid JSON"},
		"unknown escape":          {`{"text":"\x41"}`, "body: is not valid JSON"},
		"escape cut off":          {`{"text":"\u00"}`, "body: is not valid JSON"},
		"no end of text":          {`{"text":"a\"`, "body: is not valid JSON"},
		"no end":                  {`{"text":"a"`, "body: is not valid JSON"},
		"no colon":                {`{"text" "a"}`, "body: is not valid JSON"},
		"comma too many":          {`{"text":"a",}`, "body: is not valid JSON"},
		"comma missing":           {`{"text":"a" "number":1}`, "body: is not valid JSON"},
		"comma too many, unknown": {`{"text":"a","x":[1,]}`, "body: is not valid JSON"},
		"brackets mixed":          {`{"text":"a","x":[1}}`, "body: is not valid JSON"},
		"bad number, unknown":     {`{"text":"a","x":1.}`, "body: is not valid JSON"},
		"nan":                     {`{"text":"a","x":NaN}`, "body: is not valid JSON"},
		"comment":                 {`{"text":"a"/**/}`, "body: is not valid JSON"},
		"byte order mark":         {"\ufeff" + `{"text":"a"}`, "body: is not valid JSON"},
		"more after it":           {`{"text":"a"}{}`, "body: goes on after its end"},
		"garbage after it":        {`{"text":"a"};DROP TABLE members`, "body: goes on after its end"},
		"deep":                    {`{"text":"a","x":` + deep + `}`, "body: is nested too deeply"},
		"deep in a known field":   {`{"text":` + deep + `}`, "body: is nested too deeply"},
		"very deep and open":      {strings.Repeat(`{"x":`, 1_000_000), "body: is nested too deeply"},
		"long list":               {`{"text":"a","names":["x"` + strings.Repeat(`,"x"`, MaxList) + `]}`, "names: holds more than 1024 entries"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got sample
			err := sampleBody.Decode([]byte(tt.body), &got)
			var e *Error
			if !errors.As(err, &e) || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestDecodeBase64(t *testing.T) {
	t.Parallel()
	long := bytes.Repeat([]byte{0xfb, 0xff, 0xbe, 1}, 1000)
	for name, tt := range map[string]struct {
		in   string
		want []byte
		ok   bool
	}{
		"standard":             {base64.StdEncoding.EncodeToString(long), long, true},
		"standard unpadded":    {base64.RawStdEncoding.EncodeToString(long), long, true},
		"url-safe":             {base64.URLEncoding.EncodeToString(long), long, true},
		"url-safe unpadded":    {base64.RawURLEncoding.EncodeToString(long), long, true},
		"nothing":              {"", []byte{}, true},
		"one pad of two":       {"AQ=", nil, false},
		"pads too many":        {"AQI==", nil, false},
		"only pads":            {"====", nil, false},
		"pad inside":           {"AQ==AQ==", nil, false},
		"alphabets mixed":      {"-_+/", nil, false},
		"one character":        {"A", nil, false},
		"line end":             {"AQ\nI=", nil, false},
		"line ends for length": {"AQID\n\n\n\n", nil, false},
		"space":                {"AQI =", nil, false},
		"other characters":     {"AQ*I", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := DecodeBase64([]byte(tt.in))
			if ok != tt.ok || !bytes.Equal(got, tt.want) {
				t.Errorf("got %d bytes, %v; want %d bytes, %v", len(got), ok, len(tt.want), tt.ok)
			}
		})
	}
}

func TestOutputForms(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 999_999_999, time.FixedZone("x", 3600))
	for name, tt := range map[string]struct {
		v    any
		want string
	}{
		"bytes are padded":         {BlobOf([]byte{1}), `{"$bytes":"AQ=="}`},
		"no bytes are empty":       {BlobOf(nil), `{"$bytes":""}`},
		"base64 is padded":         {Base64{255, 255, 254, 1}, `"///+AQ=="`},
		"times are UTC to the ms":  {Time{at}, `"2026-01-02T02:04:05.999Z"`},
		"times have all places":    {Time{time.Unix(0, 0)}, `"1970-01-01T00:00:00.000Z"`},
		"a time inside an address": {&Time{time.Unix(0, 0)}, `"1970-01-01T00:00:00.000Z"`},
	} {
		got, err := json.Marshal(tt.v)
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: got %s, %v; want %s", name, got, err, tt.want)
		}
	}
}

func TestPlansOfImpossibleTypesPanic(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(){
		"no struct": func() { NewBody[string]() },
		"float": func() {
			NewBody[struct {
				F float64 `json:"f"`
			}]()
		},
		"no name": func() { NewBody[struct{ F string }]() },
		"blob in query": func() {
			NewQuery[struct {
				F Bytes `json:"f"`
			}]()
		},
		"object in list": func() {
			NewBody[struct {
				F []struct {
					G int8 `json:"g"`
				} `json:"f"`
			}]()
		},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: did not panic", name)
				}
			}()
			make()
		}()
	}
}

// FuzzBody holds the decoder to encoding/json: what it accepts is JSON and
// means the same there; what it refuses as no JSON is none there either.
func FuzzBody(f *testing.F) {
	for _, s := range []string{
		`{"text":"a","number":1,"maybe":-2,"yes":true,"names":["x"],"object":"AQI=","blob":{"$bytes":"AQ"},"when":"2026-01-02T03:04:05Z"}`,
		`{"text":"\ud83d\ude00\/","entries":[{"did":"d","hash":"h"}],"inner":{"did":"i"},"x":[1.5e-3,null,{}]}`,
		`{"text":"a","text":"b"}`, `{"text":"\u0000"}`, `{"text":1}`, `[]`, `{"x":[[[[]]]]}`, `{"blob":"-_-_"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var got sample
		err := sampleBody.Decode(data, &got)
		if err == nil && !json.Valid(data) {
			t.Fatalf("accepted what is no JSON: %q", data)
		}
		var e *Error
		if errors.As(err, &e) && *e == *badJSON && json.Valid(data) {
			t.Fatalf("refused JSON as none: %q", data)
		}
		if err != nil {
			return
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(data, &fields); err != nil {
			t.Fatal(err)
		}
		same(t, fields["text"], got.Text)
		same(t, fields["number"], got.Number)
		if given(fields["maybe"]) {
			same(t, fields["maybe"], *got.Maybe)
		}
		if len(got.Names) > 0 {
			same(t, fields["names"], got.Names)
		}
	})
}

func given(raw json.RawMessage) bool { return raw != nil && string(raw) != "null" }

func same[T any](t *testing.T, raw json.RawMessage, got T) {
	t.Helper()
	var want T
	if given(raw) {
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got %v, encoding/json says %v", got, want)
	}
}

func FuzzBase64(f *testing.F) {
	for _, s := range []string{"", "AQI=", "AQI", "-_8", "+/8=", "A===", "\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b, ok := DecodeBase64([]byte(s))
		if !ok {
			return
		}
		again, ok := DecodeBase64([]byte(base64.StdEncoding.EncodeToString(b)))
		if !ok || !bytes.Equal(again, b) {
			t.Fatalf("%q gives %x, which does not come back", s, b)
		}
		plain := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(s, "="))
		if want, err := base64.RawStdEncoding.DecodeString(plain); err != nil || !bytes.Equal(b, want) {
			t.Fatalf("%q gives %x, encoding/base64 says %x, %v", s, b, want, err)
		}
	})
}
