package router

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
)

// sink is a ResponseWriter that keeps nothing.
type sink struct{ h http.Header }

func (s sink) Header() http.Header         { return s.h }
func (s sink) Write(p []byte) (int, error) { return len(p), nil }
func (s sink) WriteHeader(int)             {}

// rewound is a body that can be read again and again.
type rewound struct{ *strings.Reader }

func (rewound) Close() error { return nil }

// serveAgain measures h on one request, without the network.
func serveAgain(b *testing.B, h http.Handler, r *http.Request, body string) {
	b.ReportAllocs()
	w := sink{http.Header{}}
	for b.Loop() {
		r.Body = rewound{strings.NewReader(body)}
		h.ServeHTTP(w, r)
	}
}

func BenchmarkGetEpoch(b *testing.B) {
	for name, log := range map[string]*slog.Logger{
		"quiet":  slog.New(slog.DiscardHandler),
		"logged": slog.New(slog.NewJSONHandler(io.Discard, nil)),
	} {
		b.Run(name, func(b *testing.B) {
			e := newBareEnv(b, func(c *Config) { c.Verifier, c.Logger = newVerifier(b), log })
			serveAgain(b, e.handler, as(alice, httptest.NewRequest("GET", epochPath, nil)), "")
		})
	}
	b.Run("empty gin", func(b *testing.B) {
		engine := gin.New()
		engine.GET("/xrpc/"+Prefix+"getEpoch", func(c *gin.Context) {
			c.Data(200, "application/json", []byte(`{"convoId":"abcdef012345","currentEpoch":7}`))
		})
		serveAgain(b, engine, httptest.NewRequest("GET", epochPath, nil), "")
	})
}

func BenchmarkSendMessage(b *testing.B) {
	e := newBareEnv(b, func(c *Config) { c.Verifier, c.Logger = newVerifier(b), slog.New(slog.DiscardHandler) })
	body := sendBody(1368)
	r := as(alice, httptest.NewRequest("POST", "/xrpc/"+Prefix+"sendMessage", strings.NewReader(body)))
	serveAgain(b, e.handler, r, body)
}
