package auth

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"catbird/conversation"
)

// world is a server that stands for every host there is.
type world struct {
	t   testing.TB
	now *clock

	mu    sync.Mutex
	docs  map[string]any // by host and path; an int is a status, a string a body
	asked map[string]int
	hold  chan struct{} // where not nil, answers wait for it to be closed
	came  chan struct{} // one for each request that has come in
}

func newWorld(t testing.TB) (*world, *DIDResolver) {
	w := &world{t: t, now: newClock(), docs: map[string]any{}, asked: map[string]int{}, came: make(chan struct{}, 1000)}
	s := httptest.NewTLSServer(w)
	t.Cleanup(s.Close)
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, s.Listener.Addr().String())
		},
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // the server has one certificate for all hosts
	}
	r := NewResolver(ResolverConfig{Transport: transport, Clock: w.now.Now, Concurrency: 4, Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(transport.CloseIdleConnections)
	t.Cleanup(r.Close)
	return w, r
}

func (w *world) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	at := r.Host + r.URL.Path
	w.mu.Lock()
	w.asked[at]++
	doc, hold := w.docs[at], w.hold
	w.mu.Unlock()
	w.came <- struct{}{}
	if hold != nil {
		<-hold
	}
	switch doc := doc.(type) {
	case nil:
		out.WriteHeader(http.StatusNotFound)
	case int:
		out.Header().Set("Location", "https://elsewhere.example/")
		out.WriteHeader(doc)
	case string:
		out.Write([]byte(doc))
	default:
		json.NewEncoder(out).Encode(doc)
	}
}

func (w *world) set(at string, doc any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.docs[at] = doc
}

func (w *world) looks(at string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked[at]
}

const (
	plcAlice = "plc.directory/" + alice
	web      = "did:web:chat.example.com"
	webDoc   = "chat.example.com/.well-known/did.json"
)

func document(t testing.TB, did string, k atcrypto.PrivateKey) map[string]any {
	return map[string]any{"id": did, "verificationMethod": []any{
		map[string]any{"id": did + "#other", "type": "Multikey", "controller": did, "publicKeyMultibase": public(t, newP256(t)).Multibase()},
		map[string]any{"id": did + "#atproto", "type": "Multikey", "controller": did, "publicKeyMultibase": public(t, k).Multibase()},
	}}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t)
	p, k := newP256(t), newK256(t)
	w.set(plcAlice, document(t, alice, p))
	w.set(webDoc, document(t, web, k))
	for did, want := range map[string]atcrypto.PrivateKey{alice: p, web: k} {
		got, err := r.Key(t.Context(), did)
		if err != nil || !got.Equal(public(t, want)) {
			t.Errorf("%s: got %v, %v", did, got, err)
		}
	}
}

func TestResolveVerifiesTokensEndToEnd(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t)
	older, newer := newK256(t), newP256(t)
	w.set(plcAlice, document(t, alice, older))
	v := newVerifier(t, Config{Resolver: r, EnforceJTI: true, Clock: w.now.Now})
	verify := func(k atcrypto.PrivateKey, alg, jti string, want conversation.Code) {
		t.Helper()
		_, err := v.Verify(t.Context(), signWith(t, k, alg, good(w.now, fields{"jti": jti})), nsid)
		wantCode(t, err, want)
	}
	verify(older, "ES256K", "1", "")
	w.set(plcAlice, document(t, alice, newer))
	verify(newer, "ES256", "2", conversation.InvalidToken) // the last look is recent
	w.now.Add(31 * time.Second)
	verify(newer, "ES256", "3", "")
	verify(older, "ES256K", "4", conversation.InvalidToken)
	verify(older, "ES256K", "5", conversation.InvalidToken)
	if n := w.looks(plcAlice); n != 2 {
		t.Errorf("the document was looked at %d times, want 2: forgers cannot ask for more", n)
	}
}

func TestResolveRefuses(t *testing.T) {
	t.Parallel()
	key := newP256(t)
	noKey := map[string]any{"id": web}
	foreign := document(t, web, key)
	foreign["verificationMethod"].([]any)[1].(map[string]any)["controller"] = alice
	broken := document(t, web, key)
	broken["verificationMethod"].([]any)[1].(map[string]any)["publicKeyMultibase"] = "zQ3sh"
	for name, tt := range map[string]struct {
		did   string
		doc   any
		final bool
	}{
		"not found":               {web, nil, true},
		"gone":                    {web, http.StatusGone, true},
		"redirect":                {web, http.StatusFound, true},
		"server error":            {web, http.StatusInternalServerError, false},
		"too many requests":       {web, http.StatusTooManyRequests, false},
		"document of another DID": {web, document(t, alice, key), true},
		"no key":                  {web, noKey, true},
		"key of another DID":      {web, foreign, true},
		"broken key":              {web, broken, true},
		"no JSON":                 {web, "<html>", true},
		"other JSON":              {web, "[1]", true},
		"nothing":                 {web, "", true},
		"too long":                {web, `{"id":"` + web + `","x":"` + strings.Repeat("x", maxDocument) + `"}`, true},
		"another method":          {"did:key:zQ3shXjHeiBuRCKmM36cuYnm7YEMzhGnCmCyW92sRJ9pribSF", nil, true},
		"no DID":                  {"alice", nil, true},
		"a short did:plc":         {"did:plc:alice", nil, true},
		"a did:plc of other text": {"did:plc:alice%2e%2e2222222222222", nil, true},
		"port":                    {"did:web:chat.example.com%3A8443", nil, true},
		"path":                    {"did:web:chat.example.com:u:alice", nil, true},
		"localhost":               {"did:web:localhost", nil, true},
		"address":                 {"did:web:127.0.0.1", nil, true},
		"local name":              {"did:web:db.internal", nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, r := newWorld(t)
			w.set(webDoc, tt.doc)
			got, err := r.Key(t.Context(), tt.did)
			if err == nil || errors.Is(err, ErrNoKey) != tt.final {
				t.Errorf("got %v, %v; want an error that is final: %v", got, err, tt.final)
			}
		})
	}
}

func TestResolveRemembers(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t)
	key := newP256(t)
	ask := func(did string, ok bool, at string, looks int) {
		t.Helper()
		if _, err := r.Key(t.Context(), did); (err == nil) != ok {
			t.Errorf("%s: got error %v", did, err)
		}
		if n := w.looks(at); n != looks {
			t.Errorf("%s was looked at %d times, want %d", at, n, looks)
		}
	}
	w.set(plcAlice, document(t, alice, key))
	ask(alice, true, plcAlice, 1)
	ask(alice, true, plcAlice, 1)
	ask(web, false, webDoc, 1)
	ask(web, false, webDoc, 1)
	w.now.Add(31 * time.Second)
	ask(web, false, webDoc, 2)
	ask(alice, true, plcAlice, 1)

	w.now.Add(10 * time.Minute)
	w.set(plcAlice, http.StatusInternalServerError)
	ask(alice, true, plcAlice, 2) // the last key stays in use
	ask(alice, true, plcAlice, 2)
	w.now.Add(time.Hour)
	ask(alice, false, plcAlice, 3) // but not for ever
	ask(alice, false, plcAlice, 3)
	w.set(plcAlice, document(t, alice, key))
	w.now.Add(failureTTL)
	ask(alice, true, plcAlice, 4)
}

// TestMadeUpDIDsCrowdOutNoKeys: anybody can name DIDs that there are not.
func TestMadeUpDIDsCrowdOutNoKeys(t *testing.T) {
	t.Parallel()
	doc, err := json.Marshal(document(t, web, newP256(t)))
	if err != nil {
		t.Fatal(err)
	}
	r := NewResolver(ResolverConfig{Transport: bodyTransport(doc), CacheSize: 8, Clock: newClock().Now, Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(r.Close)
	if _, err := r.Key(t.Context(), web); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if _, err := r.Key(t.Context(), fmt.Sprintf("did:web:x%d.example.com", i)); !errors.Is(err, ErrNoKey) {
			t.Fatal(err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.keys.Contains(web) || r.absent.Len() > 2 {
		t.Errorf("the key is remembered: %v; %d made-up DIDs are", r.keys.Contains(web), r.absent.Len())
	}
}

func TestResolveAsksOnceForMany(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t)
	w.set(plcAlice, document(t, alice, newP256(t)))
	w.hold = make(chan struct{})
	gone, leave := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { // who leaves takes nobody along
		if _, err := r.Key(gone, alice); !errors.Is(err, context.Canceled) {
			t.Errorf("who left got %v", err)
		}
	})
	<-w.came
	leave()
	for range 10 {
		wg.Go(func() {
			if _, err := r.Key(t.Context(), alice); err != nil {
				t.Error(err)
			}
		})
	}
	close(w.hold)
	wg.Wait()
	if n := w.looks(plcAlice); n != 1 {
		t.Errorf("looked %d times, want once", n)
	}
}

func TestResolveBoundsWhatIsOnItsWay(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t)
	w.set(plcAlice, document(t, alice, newP256(t)))
	w.hold = make(chan struct{})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() { r.Key(t.Context(), fmt.Sprintf("did:web:slow%d.example.com", i)) })
		<-w.came
	}
	_, err := r.Key(t.Context(), web)
	wantCode(t, err, conversation.Overloaded)
	wg.Go(func() { // the other method is not held up
		if _, err := r.Key(t.Context(), alice); err != nil {
			t.Error(err)
		}
	})
	<-w.came
	close(w.hold)
	wg.Wait()
	if _, err := r.Key(t.Context(), web); !errors.Is(err, ErrNoKey) {
		t.Errorf("got %v when there is room again", err)
	}
}

func TestResolverCloses(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t)
	w.hold = make(chan struct{})
	defer close(w.hold)
	done := make(chan error)
	go func() {
		_, err := r.Key(t.Context(), alice)
		done <- err
	}()
	<-w.came
	r.Close()
	if err := <-done; err == nil {
		t.Error("Key found a key after Close")
	}
	r.Close()
	if _, err := r.Key(t.Context(), web); !errors.Is(err, errClosed) {
		t.Errorf("got %v after Close", err)
	}
}

// FuzzDocument: no document makes reading it panic or is taken for a key that
// it does not hold.
func FuzzDocument(f *testing.F) {
	raw, err := json.Marshal(document(f, web, newK256(f)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(raw))
	f.Add(`{"id":"` + web + `","verificationMethod":[{"id":"#atproto","type":"EcdsaSecp256r1VerificationKey2019","controller":"` + web + `","publicKeyMultibase":"z"}]}`)
	f.Add(`{"id":"` + web + `","verificationMethod":[{"id":"#atproto","type":"Multikey","controller":"` + web + `","publicKeyMultibase":"zDn"}]}`)
	f.Fuzz(func(t *testing.T, doc string) {
		w := bodyTransport(doc)
		r := NewResolver(ResolverConfig{Transport: w, Logger: slog.New(slog.DiscardHandler)})
		defer r.Close()
		key, err := r.Key(t.Context(), web)
		if (key == nil) == (err == nil) {
			t.Fatalf("got %v and %v", key, err)
		}
		if err == nil && !strings.Contains(doc, "atproto") {
			t.Fatalf("found a key in %q", doc)
		}
	})
}

type bodyTransport string

func (b bodyTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	rec := httptest.NewRecorder()
	rec.WriteString(string(b))
	return rec.Result(), nil
}
