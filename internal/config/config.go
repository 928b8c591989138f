package config

import (
	"log/slog"
	"time"

	"catbird/conversation"
)

// Config is everything that an operator sets. The zero value is not useful: it
// comes from the parser, or from [Default]. Complete and check it before use.
type Config struct {
	Server   Server   `embed:"" group:"Listeners"`
	Database Database `embed:"" group:"Database"`
	Actors   Actors   `embed:"" group:"Actors"`
	Cluster  Cluster  `embed:"" group:"Cluster"`
	Policy   Policy   `embed:"" group:"Conversations"`
	Auth     Auth     `embed:"" group:"Authentication"`
	Limits   Limits   `embed:"" group:"Limits"`
	Drain    Drain    `embed:"" group:"Leaving"`
	Log      Log      `embed:"" group:"Logs"`
	Traces   Traces   `embed:"" group:"Traces"`
}

// Server is where a node listens. Port 0 lets the system choose one.
type Server struct {
	Host         string `name:"server-host" env:"SERVER_HOST" default:"0.0.0.0" help:"Address of the clients' API, /health and /metrics."`
	Port         int    `name:"server-port" env:"SERVER_PORT" default:"8080" help:"Port of the clients' API, /health and /metrics."`
	InternalHost string `name:"internal-host" env:"INTERNAL_HOST" help:"Address of forwarding and the operator API; none: SERVER_HOST."`
	InternalPort int    `name:"internal-port" env:"INTERNAL_PORT" default:"8081" help:"Port of forwarding and the operator API."`
}

// Database is where conversations are stored.
type Database struct {
	URL            Secret `name:"database-url" env:"DATABASE_URL" help:"postgresql://… ; none: embedded SQLite in DATA_DIR."`
	MaxConnections int    `name:"database-max-connections" env:"DATABASE_MAX_CONNECTIONS" default:"20" help:"Connections to PostgreSQL in the pool."`
	DataDir        string `name:"data-dir" env:"DATA_DIR" default:"./data" help:"Folder of the embedded database's files."`
}

// Actors are the actor system's switch and bounds.
type Actors struct {
	Enable         Switch        `name:"enable-actor-system" env:"ENABLE_ACTOR_SYSTEM" default:"false" help:"Serve conversations through actors; off: straight from the database (true, 1, false or 0)."`
	RolloutPercent int           `name:"actor-rollout-percent" env:"ACTOR_ROLLOUT_PERCENT" default:"100" help:"Percentage of conversations that actors serve when they are on, by a stable hash of the id."`
	IdleTimeout    time.Duration `name:"actor-idle-timeout" env:"ACTOR_IDLE_TIMEOUT" default:"1h" help:"An actor without work for this long is let go."`
	Max            int           `name:"actor-max" env:"ACTOR_MAX" default:"100000" help:"Actors on this node at most; the least recently used makes room."`
	MailboxSize    int           `name:"actor-mailbox-size" env:"ACTOR_MAILBOX_SIZE" default:"1024" help:"Requests that may wait for one actor; one more is answered with 503 MailboxFull."`
}

// Cluster is how nodes find and trust one another.
type Cluster struct {
	RedisURL        Secret   `name:"redis-url" env:"REDIS_URL" help:"redis://… ; none: one node alone."`
	NodeName        string   `name:"node-name" env:"NODE_NAME" help:"Name of this node, unique in the cluster and stable over restarts; none: the host name."`
	GossipHost      string   `name:"gossip-host" env:"GOSSIP_HOST" default:"0.0.0.0" help:"Address that gossip listens on."`
	GossipPort      int      `name:"gossip-port" env:"GOSSIP_PORT" default:"7946" help:"Port of gossip, UDP and TCP."`
	GossipAdvertise string   `name:"gossip-advertise" env:"GOSSIP_ADVERTISE" help:"Address that other nodes reach this one at; none: its own."`
	GossipJoin      []string `name:"gossip-join" env:"GOSSIP_JOIN" help:"Nodes to join, host:port with commas between; a DNS name stands for all its addresses."`
	GossipKey       Secret   `name:"gossip-key" env:"GOSSIP_KEY" help:"Key that encrypts gossip: 16, 24 or 32 bytes in base64; several with commas between, the first one encrypts."`
	Label           string   `name:"cluster-label" env:"CLUSTER_LABEL" default:"catbird" help:"Keeps clusters on one network apart."`
	Secret          Secret   `name:"cluster-secret" env:"CLUSTER_SECRET" help:"Shared by the nodes and asked of operators; required with REDIS_URL or GOSSIP_JOIN."`
	// HandoffConcurrency bounds the rate of moves.
	HandoffConcurrency int `name:"handoff-concurrency" env:"HANDOFF_CONCURRENCY" default:"2" help:"Batches of 256 conversations that are handed to other nodes at once."`

	LeaseTTL time.Duration `name:"lease-ttl" env:"LEASE_TTL" default:"5s" help:"How long a silent node keeps what it holds."`
}

// Policy is what an operator decides about conversations.
type Policy struct {
	MaxMembers       int           `name:"max-members" env:"MAX_MEMBERS" default:"1000" help:"Active members of a conversation at most."`
	RemovePolicy     string        `name:"remove-policy" env:"REMOVE_POLICY" default:"creator" help:"Who may remove others: creator or member (every member, as MLS itself has it)."`
	MessageRetention time.Duration `name:"message-retention" env:"MESSAGE_RETENTION" default:"720h" help:"How long application messages are kept; 0 keeps all."`
	CommitRetention  time.Duration `name:"commit-retention" env:"COMMIT_RETENTION" default:"0s" help:"How long commits are kept; 0 keeps all."`
}

// Auth is how clients prove who they are.
type Auth struct {
	JWTSecret  Secret `name:"jwt-secret" env:"JWT_SECRET" help:"Accept HS256 tokens signed with this, for development and tests."`
	ServiceDID string `name:"service-did" env:"SERVICE_DID" help:"DID of this service, which tokens must name as their audience; none: not checked."`
	EnforceLXM Switch `name:"enforce-lxm" env:"ENFORCE_LXM" default:"false" help:"Demand that tokens name the called method (lxm)."`
	EnforceJTI Switch `name:"enforce-jti" env:"ENFORCE_JTI" default:"true" help:"Demand a jti and accept each token once."`
	JTITTL     int    `name:"jti-ttl-seconds" env:"JTI_TTL_SECONDS" default:"120" help:"Seconds for which a used jti is remembered at least."`
}

// Limits bound what clients can make a node hold.
type Limits struct {
	MaxConnections int           `name:"max-connections" env:"MAX_CONNECTIONS" default:"10000" help:"Client connections open at once; of more, those without a request give way."`
	MaxInFlight    int           `name:"max-in-flight" env:"MAX_IN_FLIGHT" default:"2048" help:"Client requests in work at once; one more is answered with 503 Overloaded."`
	RequestTimeout time.Duration `name:"request-timeout" env:"REQUEST_TIMEOUT" default:"30s" help:"How long one request may take after its body has come in."`
	RateRPS        float64       `name:"rate-limit-rps" env:"RATE_LIMIT_RPS" default:"0" help:"Requests per second that one caller may make; 0: no limit."`
	RateBurst      int           `name:"rate-limit-burst" env:"RATE_LIMIT_BURST" default:"0" help:"Requests that one caller may make at once above the rate; 0: twice the rate."`
}

// Drain is how a node leaves.
type Drain struct {
	Delay   time.Duration `name:"drain-delay" env:"DRAIN_DELAY" default:"0s" help:"How long a leaving node still accepts connections as before, since load balancers lag."`
	Timeout time.Duration `name:"drain-timeout" env:"DRAIN_TIMEOUT" default:"30s" help:"How long the rest of leaving may take."`
}

// Log is what is logged, and how.
type Log struct {
	Level  string `name:"log-level" env:"LOG_LEVEL" default:"info" help:"trace, debug, info, warn or error; info,actor=debug sets one component's level."`
	Format string `name:"log-format" env:"LOG_FORMAT" default:"json" help:"json or text."`
}

// ConversationPolicy returns the policy in the domain's terms.
func (c *Config) ConversationPolicy() conversation.Policy {
	return conversation.Policy{
		MaxMembers:       c.Policy.MaxMembers,
		AnyMemberRemoves: c.Policy.RemovePolicy == RemoveMember,
		Retention:        c.Policy.MessageRetention,
	}
}

// Embedded reports whether conversations are stored in the embedded database.
func (c *Config) Embedded() bool { return c.Database.URL == "" }

// Clustered reports whether the settings ask for more than one node.
func (c *Config) Clustered() bool {
	return c.Cluster.RedisURL != "" || len(c.Cluster.GossipJoin) > 0
}

// The values of REMOVE_POLICY.
const (
	RemoveCreator = "creator"
	RemoveMember  = "member"
)

// Secret is a setting that is never printed or logged.
type Secret string

// String hides the value.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "[set]"
}

// GoString hides the value.
func (s Secret) GoString() string { return s.String() }

// LogValue hides the value.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText hides the value.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Reveal returns the value.
func (s Secret) Reveal() string { return string(s) }
