package charttest

import (
	"encoding/base64"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"catbird/charts/test/chart"
)

// checksum returns what makes Kubernetes replace the pods when a secret changes.
func checksum(t *testing.T, r *chart.Release) string {
	t.Helper()
	return find[appsv1.StatefulSet](t, r.Objects, "catbird").Spec.Template.Annotations["checksum/secret"]
}

func TestGeneratedSecretsSurviveAnUpgrade(t *testing.T) {
	first := render(t, "")
	made := find[corev1.Secret](t, first.Objects, "catbird")
	if n := len(made.Data["CLUSTER_SECRET"]); n < 32 {
		t.Errorf("CLUSTER_SECRET has %d characters", n)
	}
	if key, err := base64.StdEncoding.DecodeString(string(made.Data["GOSSIP_KEY"])); err != nil || len(key) != 32 {
		t.Errorf("GOSSIP_KEY has %d bytes (%v)", len(key), err)
	}
	upgraded, err := open(t).Render(nil, chart.Options{Cluster: chart.With(made)})
	if err != nil {
		t.Fatal(err)
	}
	kept := find[corev1.Secret](t, upgraded.Objects, "catbird")
	for name, value := range made.Data {
		if string(kept.Data[name]) != string(value) {
			t.Errorf("an upgrade changes %s", name)
		}
	}
	if checksum(t, first) == "" || checksum(t, first) != checksum(t, upgraded) {
		t.Error("an upgrade that changes nothing replaces the pods")
	}
	again := render(t, "")
	if string(find[corev1.Secret](t, again.Objects, "catbird").Data["CLUSTER_SECRET"]) == string(made.Data["CLUSTER_SECRET"]) {
		t.Error("two releases have the same secret")
	}
	if checksum(t, again) == checksum(t, first) {
		t.Error("pods are not replaced when their secret changes")
	}
}

func TestPodsAreReplacedWhenSettingsChange(t *testing.T) {
	sum := func(text string) string {
		set := find[appsv1.StatefulSet](t, render(t, text).Objects, "catbird")
		return set.Spec.Template.Annotations["checksum/settings"]
	}
	if a, b := sum(""), sum("config: {LEASE_TTL: 6s}"); a == b || a == "" {
		t.Errorf("checksums %q and %q", a, b)
	}
}

// Secrets stand in Secrets alone, in what is made as in what is said.
func TestNoSecretElsewhere(t *testing.T) {
	r := render(t, `
database: {url: "postgresql://u:hunter2@db/x"}
redis: {url: "redis://:hunter2@r"}
clusterSecret: {value: hunter2}
jwtSecret: {value: hunter2}
migration: {job: {enabled: true}}`)
	for _, o := range r.Objects {
		if o.Kind != "Secret" && strings.Contains(string(o.Text), "hunter2") {
			t.Errorf("%s shows a secret", o.ID())
		}
	}
	if strings.Contains(r.Notes, "hunter2") {
		t.Error("the notes show a secret")
	}
	data := find[corev1.Secret](t, r.Objects, "catbird").Data
	if string(data["DATABASE_URL"]) != "postgresql://u:hunter2@db/x" || string(data["JWT_SECRET"]) != "hunter2" {
		t.Error("the Secret does not hold what was given")
	}
}

func TestNotesSayWhatIsMissing(t *testing.T) {
	for text, says := range map[string]string{
		"":                                      "a Secret `catbird-database`",
		"jwtSecret: {value: a}":                 "Generated, and kept over upgrades with helm: clusterSecret and gossipKey",
		"networkPolicy: {enabled: false}":       "keep the port 8081",
		"updateStrategy: {partition: 2}":        "catbird-0 to catbird-1 stay as they are",
		"config: {REQUEST_TIMEOUT: 1m30s}":      "A request may take 1m30s (config.REQUEST_TIMEOUT), and a leaving node waits for 35 s",
		"check: {enabled: false}":               "has nothing to go by",
		"canary: {enabled: true, partition: 1}": "catbird-canary-0 to catbird-canary-0 stay",
		"canary: {enabled: true}":               "3 nodes and 1 of the canary in chat",
	} {
		if notes := render(t, text).Notes; !strings.Contains(notes, says) {
			t.Errorf("%q: the notes do not say %q:\n%s", text, says, notes)
		}
	}
}
