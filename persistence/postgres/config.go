package postgres

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Config says how to reach the database. URL is required; every other field has
// a default, which its zero value stands for.
type Config struct {
	// URL is postgresql://user:password@host:port/database with the options of
	// libpq. It leads to the server, or to a pooler that gives each connection
	// one of the server's for good: statements are prepared, settings are the
	// session's, and housekeeping holds a lock of its session.
	URL string
	// MaxConnections is the budget of all pools together: 20 by default, 3 at
	// least, one for each.
	MaxConnections int
	// AcquireTimeout is how long a call waits for a free connection before it
	// is told that the database is unavailable: 2s by default.
	AcquireTimeout time.Duration
	// ConnectTimeout bounds opening one connection: 3s by default.
	ConnectTimeout time.Duration
	// StatementTimeout bounds one statement, on the server: 15s by default.
	// Migrations and Integrity have bounds of their own.
	StatementTimeout time.Duration
	// LockTimeout bounds waiting for one row, on the server: 5s by default.
	LockTimeout time.Duration
	// ReplyTimeout bounds waiting for the answer to one flight of statements, here:
	// a server or a network that hangs tells nothing. 3s by default, and twice as
	// long for changes, whose outcome would be unknown.
	ReplyTimeout time.Duration
	// ApplicationName is what the server lists the connections under: catbird
	// by default.
	ApplicationName string
	// Logger gets what goes wrong without an error to return; slog.Default() by
	// default.
	Logger *slog.Logger
}

const (
	minConnections     = 3
	defaultConnections = 20
	journalConnections = 3
	sessionConnections = 1
)

func (c Config) withDefaults() Config {
	if c.MaxConnections == 0 {
		c.MaxConnections = defaultConnections
	}
	c.AcquireTimeout = orDefault(c.AcquireTimeout, 2*time.Second)
	c.ConnectTimeout = orDefault(c.ConnectTimeout, 3*time.Second)
	c.StatementTimeout = orDefault(c.StatementTimeout, 15*time.Second)
	c.LockTimeout = orDefault(c.LockTimeout, 5*time.Second)
	c.ReplyTimeout = orDefault(c.ReplyTimeout, 3*time.Second)
	if c.ApplicationName == "" {
		c.ApplicationName = "catbird"
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// reply returns how long to wait for the answer to what has effect e.
func (c Config) reply(e effect) time.Duration {
	if e == changes {
		return 2 * c.ReplyTimeout
	}
	return c.ReplyTimeout
}

func orDefault(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}

func (c Config) validate() error {
	switch {
	case c.URL == "":
		return errors.New("URL is required")
	case c.MaxConnections < minConnections:
		return fmt.Errorf("MaxConnections is %d, must be at least %d", c.MaxConnections, minConnections)
	case c.AcquireTimeout < 0, c.ConnectTimeout < 0, c.StatementTimeout < 0, c.LockTimeout < 0, c.ReplyTimeout < 0:
		return errors.New("a timeout is negative")
	}
	return nil
}

// parse returns the settings that all pools share.
func (c Config) parse() (*pgxpool.Config, error) {
	p, err := pgxpool.ParseConfig(c.URL)
	if err != nil {
		return nil, fmt.Errorf("parse the database URL: %w", err) // pgx leaves the password out
	}
	p.ConnConfig.ConnectTimeout = c.ConnectTimeout
	maps.Copy(p.ConnConfig.RuntimeParams, map[string]string{
		"application_name":                    c.ApplicationName,
		"timezone":                            "UTC",
		"default_transaction_isolation":       "read committed",
		"synchronous_commit":                  "on",
		"idle_in_transaction_session_timeout": "1000",
		"statement_timeout":                   milliseconds(c.StatementTimeout),
		"lock_timeout":                        milliseconds(c.LockTimeout),
		// Whoever is cut off while its statements are still on their way would
		// hold locks until the server finds out.
		"tcp_keepalives_idle":     "5",
		"tcp_keepalives_interval": "2",
		"tcp_keepalives_count":    "3",
		// Every statement finds its rows by key. A plan that was made while a
		// table was small must not scan it once it is large, and planning or
		// compiling anew for each call costs more than it brings.
		"enable_seqscan":  "off",
		"plan_cache_mode": "force_generic_plan",
		"jit":             "off",
	})
	p.MinConns, p.MinIdleConns = 0, 0
	p.MaxConnLifetimeJitter = 5 * time.Minute
	return p, nil
}

func milliseconds(d time.Duration) string {
	return strconv.FormatInt(max(1, d.Milliseconds()), 10)
}
