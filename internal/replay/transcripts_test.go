package replay

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"catbird/testdata/transcripts"
)

// TestTranscriptsAreChecked spoils a recording in each way that Parse must
// notice. The test is here because folders named testdata are not part of
// ./... .
func TestTranscriptsAreChecked(t *testing.T) {
	raw, err := os.ReadFile("../../testdata/transcripts/small.json")
	if err != nil {
		t.Fatal(err)
	}
	type object = map[string]any
	step := func(doc object, i int) object { return doc["steps"].([]any)[i].(object) }
	tests := []struct {
		name  string
		spoil func(doc object)
		want  string // "": it is accepted
	}{
		{"as it is", func(object) {}, ""},
		{"a field that nobody reads", func(d object) { step(d, 1)["psk"] = "AAAA" }, `unknown field "psk"`},
		{"an unknown operation", func(d object) { step(d, 1)["op"] = "commit" }, `step 1: unknown operation "commit"`},
		{"a stranger", func(d object) { step(d, 2)["by"] = "did:plc:eve" }, "step 2: \"did:plc:eve\" is not among the people"},
		{"a stranger added", func(d object) { step(d, 1)["didList"] = []any{"did:plc:eve"} }, "step 1: \"did:plc:eve\""},
		{"a stranger removed", func(d object) { step(d, 7)["targetDid"] = "did:plc:eve" }, "step 7: \"did:plc:eve\""},
		{"a message of another epoch", func(d object) { step(d, 5)["epoch"] = 1 }, "step 5: is made at epoch 1, but the conversation is at 2"},
		{"a change that skips an epoch", func(d object) { step(d, 4)["epochAfter"] = 3 }, "step 4: must have a commit that leads to the next epoch"},
		{"a change without a commit", func(d object) { delete(step(d, 4), "commit") }, "step 4: must have a commit"},
		{"an empty message", func(d object) { step(d, 2)["ciphertext"] = "" }, "step 2: has no ciphertext"},
		{"a key package of nobody", func(d object) {
			step(d, 1)["keyPackageHashes"].([]any)[0].(object)["hash"] = strings.Repeat("0", 64)
		}, "step 1: key package 000"},
		{"a key package that was altered", func(d object) {
			d["people"].([]any)[0].(object)["keyPackages"].([]any)[1].(object)["data"] = "AAAA"
		}, "key package 1 of did:plc:alice"},
		{"somebody twice", func(d object) { d["people"] = append(d["people"].([]any), d["people"].([]any)[0]) }, "is there twice"},
		{"a group id that is no hex", func(d object) { d["groupId"] = "x" }, "groupId is not hexadecimal"},
		{"no beginning", func(d object) { d["steps"] = d["steps"].([]any)[1:] }, "does not begin with createConvo"},
		{"two beginnings", func(d object) { d["steps"] = append(d["steps"].([]any), step(d, 0)) }, "step 12: creates the conversation again"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var doc object
			if err := json.Unmarshal(raw, &doc); err != nil {
				t.Fatal(err)
			}
			tt.spoil(doc)
			b, err := json.Marshal(doc)
			if err != nil {
				t.Fatal(err)
			}
			_, err = transcripts.Parse("spoilt", strings.NewReader(string(b)))
			if tt.want == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
