package config

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"catbird/conversation"
	"catbird/internal/obs"
)

// Complete fills in what depends on the machine: the node's name, the internal
// host, the burst. It leaves alone what is set.
func (c *Config) Complete() error {
	if c.Cluster.NodeName == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("NODE_NAME: is not set, and the host name is unknown: %w", err)
		}
		c.Cluster.NodeName = host
	}
	c.Server.InternalHost = cmp.Or(c.Server.InternalHost, c.Server.Host)
	if c.Limits.RateBurst == 0 {
		c.Limits.RateBurst = max(1, int(2*c.Limits.RateRPS))
	}
	for i, addr := range c.Cluster.GossipJoin {
		c.Cluster.GossipJoin[i] = strings.TrimSpace(addr)
	}
	c.Cluster.GossipJoin = slices.DeleteFunc(c.Cluster.GossipJoin, func(s string) bool { return s == "" })
	return nil
}

// Check returns the first value that cannot be used, as an error of one line
// that names its variable.
func (c *Config) Check() error {
	if err := c.CheckShared(); err != nil {
		return err
	}
	if len(c.Cluster.GossipJoin) > 0 && c.Embedded() {
		return errors.New("GOSSIP_JOIN: needs DATABASE_URL; the embedded database belongs to one process")
	}
	return nil
}

// CheckShared is Check for one of several nodes of a process, which share an
// open store: they may be a cluster on the embedded database too.
func (c *Config) CheckShared() error {
	for _, check := range []func() error{
		c.validateServer, c.validateDatabase, c.validateActors, c.validateCluster,
		c.validatePolicy, c.validateAuth, c.validateLimits, c.validateLog, c.validateTraces,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) validateServer() error {
	s := c.Server
	if s.Port != 0 && s.Port == s.InternalPort && (s.InternalHost == "" || s.InternalHost == s.Host) {
		return fmt.Errorf("INTERNAL_PORT: %d is SERVER_PORT too", s.InternalPort)
	}
	return first(
		port("SERVER_PORT", s.Port),
		port("INTERNAL_PORT", s.InternalPort),
		host("SERVER_HOST", s.Host),
		host("INTERNAL_HOST", s.InternalHost),
	)
}

func (c *Config) validateDatabase() error {
	d := c.Database
	if d.URL == "" && d.DataDir == "" {
		return errors.New("DATA_DIR: must be set when DATABASE_URL is not")
	}
	return first(
		scheme("DATABASE_URL", d.URL, "postgres", "postgresql"),
		between("DATABASE_MAX_CONNECTIONS", d.MaxConnections, 3, 10_000),
	)
}

func (c *Config) validateActors() error {
	a := c.Actors
	return first(
		between("ACTOR_ROLLOUT_PERCENT", a.RolloutPercent, 0, 100),
		lasting("ACTOR_IDLE_TIMEOUT", a.IdleTimeout, time.Millisecond, 0),
		between("ACTOR_MAX", a.Max, 1, 100_000_000),
		between("ACTOR_MAILBOX_SIZE", a.MailboxSize, 1, 1_000_000),
	)
}

func (c *Config) validateCluster() error {
	k := c.Cluster
	if c.Clustered() && k.Secret == "" {
		return errors.New("CLUSTER_SECRET: is required with REDIS_URL or GOSSIP_JOIN")
	}
	if len(k.GossipJoin) > 0 && k.RedisURL == "" {
		return errors.New("GOSSIP_JOIN: needs REDIS_URL; without Redis a node is alone")
	}
	for _, addr := range k.GossipJoin {
		h, p, err := net.SplitHostPort(addr)
		n, portErr := strconv.Atoi(p)
		if err != nil || portErr != nil || h == "" || n < 1 || n > 65535 {
			return fmt.Errorf("GOSSIP_JOIN: %q is not host:port", addr)
		}
	}
	if _, err := k.GossipKeys(); err != nil {
		return err
	}
	return first(
		scheme("REDIS_URL", k.RedisURL, "redis", "rediss", "redis-sentinel", "rediss-sentinel", "redis+cluster", "rediss+cluster", "unix"),
		between("HANDOFF_CONCURRENCY", k.HandoffConcurrency, 1, 64),
		name("NODE_NAME", k.NodeName, 63),
		name("CLUSTER_LABEL", k.Label, 63),
		port("GOSSIP_PORT", k.GossipPort),
		host("GOSSIP_HOST", k.GossipHost),
		host("GOSSIP_ADVERTISE", k.GossipAdvertise),
		lasting("LEASE_TTL", k.LeaseTTL, 300*time.Millisecond, 5*time.Minute),
	)
}

// GossipKeys returns the keys of GOSSIP_KEY, the encrypting one first, and
// none when it is not set.
func (c Cluster) GossipKeys() ([][]byte, error) {
	var keys [][]byte
	for text := range strings.SplitSeq(string(c.GossipKey), ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(text)
		if err != nil || (len(key) != 16 && len(key) != 24 && len(key) != 32) {
			return nil, errors.New("GOSSIP_KEY: must be 16, 24 or 32 bytes in base64, several with commas between")
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func (c *Config) validatePolicy() error {
	p := c.Policy
	if p.RemovePolicy != RemoveCreator && p.RemovePolicy != RemoveMember {
		return fmt.Errorf("REMOVE_POLICY: %q is neither %s nor %s", p.RemovePolicy, RemoveCreator, RemoveMember)
	}
	return first(
		between("MAX_MEMBERS", p.MaxMembers, 1, 100_000),
		keep("MESSAGE_RETENTION", p.MessageRetention),
		keep("COMMIT_RETENTION", p.CommitRetention),
	)
}

func (c *Config) validateAuth() error {
	if did := c.Auth.ServiceDID; did != "" && !conversation.CheckDID(did) {
		return fmt.Errorf("SERVICE_DID: %q is not a DID", did)
	}
	return between("JTI_TTL_SECONDS", c.Auth.JTITTL, 1, 86_400)
}

func (c *Config) validateLimits() error {
	l := c.Limits
	if l.RateRPS < 0 || l.RateRPS > 1e9 || l.RateRPS != l.RateRPS {
		return fmt.Errorf("RATE_LIMIT_RPS: %v is not a rate", l.RateRPS)
	}
	return first(
		between("MAX_CONNECTIONS", l.MaxConnections, 1, 10_000_000),
		between("MAX_IN_FLIGHT", l.MaxInFlight, 1, 1_000_000),
		lasting("REQUEST_TIMEOUT", l.RequestTimeout, 100*time.Millisecond, time.Hour),
		between("RATE_LIMIT_BURST", l.RateBurst, 0, 1_000_000_000),
		lasting("DRAIN_DELAY", c.Drain.Delay, 0, time.Hour),
		lasting("DRAIN_TIMEOUT", c.Drain.Timeout, 100*time.Millisecond, time.Hour),
	)
}

func (c *Config) validateLog() error {
	if _, err := obs.ParseLevels(c.Log.Level); err != nil {
		return fmt.Errorf("LOG_LEVEL: %w", err)
	}
	if f := c.Log.Format; f != obs.FormatJSON && f != obs.FormatText {
		return fmt.Errorf("LOG_FORMAT: %q is neither %s nor %s", f, obs.FormatJSON, obs.FormatText)
	}
	return nil
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func port(name string, v int) error {
	if v < 0 || v > 65535 {
		return fmt.Errorf("%s: %d is not a port (0 to 65535)", name, v)
	}
	return nil
}

func host(name, v string) error {
	if strings.ContainsAny(v, " \t\r\n/") || (strings.Contains(v, ":") && net.ParseIP(v) == nil) {
		return fmt.Errorf("%s: %q is not a host name or an IP address", name, v)
	}
	return nil
}

func between(name string, v, low, high int) error {
	if v < low || v > high {
		return fmt.Errorf("%s: %d is not between %d and %d", name, v, low, high)
	}
	return nil
}

// lasting checks a duration; high 0 means no upper bound.
func lasting(name string, v, low, high time.Duration) error {
	if v < low {
		return fmt.Errorf("%s: %v is less than %v", name, v, low)
	}
	if high > 0 && v > high {
		return fmt.Errorf("%s: %v is more than %v", name, v, high)
	}
	return nil
}

func keep(name string, v time.Duration) error {
	if v != 0 && v < time.Second {
		return fmt.Errorf("%s: %v is less than a second; 0 keeps all", name, v)
	}
	return nil
}

func name(variable, v string, longest int) error {
	if v == "" || len(v) > longest {
		return fmt.Errorf("%s: must have 1 to %d characters", variable, longest)
	}
	for _, c := range []byte(v) {
		if c <= ' ' || c >= 0x7f {
			return fmt.Errorf("%s: must be printable ASCII without spaces", variable)
		}
	}
	return nil
}

// scheme checks a URL without ever repeating it: it may hold a password.
func scheme(name string, v Secret, allowed ...string) error {
	if v == "" {
		return nil
	}
	// No more than that: lists of hosts, which some of them take, are no URLs to
	// the standard library. Who opens it says what else is wrong.
	got, rest, ok := strings.Cut(string(v), "://")
	if !ok || rest == "" {
		return fmt.Errorf("%s: is not a URL", name)
	}
	if !slices.Contains(allowed, got) {
		return fmt.Errorf("%s: must begin with %s://", name, strings.Join(allowed, ":// or "))
	}
	return nil
}
