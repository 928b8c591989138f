package operator

import (
	"context"
	"net/http"

	"catbird/conversation"
)

// Checks say how a node finds what it depends on.
type Checks struct {
	Database string `json:"database"` // "healthy" or "unhealthy"
	Redis    string `json:"redis"`    // "healthy", "unreachable" or "not configured"
	Cluster  string `json:"cluster"`  // how many members it sees: "alone" or "3 members"
}

// Status is what a node says of itself.
type Status struct {
	Name           string `json:"name"`
	State          string `json:"state"` // joining, ready, leaving or gone
	Version        string `json:"version"`
	ActorsEnabled  bool   `json:"actorsEnabled"`
	RolloutPercent int    `json:"rolloutPercent"`
	ActiveActors   int    `json:"activeActors"`
	// RingVersion is that of the ring that the node goes by: equal on nodes that
	// see the same members.
	RingVersion uint64 `json:"ringVersion"`
	Checks      Checks `json:"checks"`
}

// Member is one node as another knows it. The last three fields come from the
// node itself; they are nil while it does not answer.
type Member struct {
	Name           string `json:"name"`
	Address        string `json:"address"`                 // host:port of the internal port
	GossipAddress  string `json:"gossipAddress,omitempty"` // host:port; "" for a node alone
	State          string `json:"state"`
	ActorsEnabled  bool   `json:"actorsEnabled"`
	RolloutPercent int    `json:"rolloutPercent"`
	Version        string `json:"version"`
	Partitions     int    `json:"partitions"`

	ActiveActors *int    `json:"activeActors"`
	RingVersion  *uint64 `json:"ringVersion"`
	Checks       *Checks `json:"checks"`
}

// Ring is how the conversations are spread.
type Ring struct {
	Partitions int `json:"partitions"` // of all members together
	// Version is less than 2^53, so that every reader of JSON holds it exactly.
	Version uint64 `json:"version"`
}

// ClusterView is the cluster as one node knows it.
type ClusterView struct {
	Node    string   `json:"node"` // who was asked
	Members []Member `json:"members"`
	Ring    Ring     `json:"ring"`
}

// Hold is who holds a conversation.
type Hold struct {
	Node    string `json:"node"`
	Session string `json:"session"`
	Fence   int64  `json:"fence"`
}

// Ownership is who should hold one conversation, and who does.
type Ownership struct {
	Convo     string `json:"convoId"`
	Partition int    `json:"partition"`
	// ShouldOwn is the node that the ring names, "" while the ring is empty.
	ShouldOwn string `json:"shouldOwn"`
	// Lease is what Redis says, nil where it names nobody who lives or where
	// LeaseUnknown.
	Lease *Hold `json:"lease"`
	// LeaseUnknown says that Redis did not answer.
	LeaseUnknown bool `json:"leaseUnknown,omitempty"`
	// Claim is what the database says, which has the last word; nil where nobody
	// holds the conversation.
	Claim *Hold `json:"claim"`
}

// Cluster is what a node knows of itself and of the others. All methods may be
// called from any goroutine.
type Cluster interface {
	// Status describes this node. It may ask the database for a sign of life,
	// for a second at most.
	Status(ctx context.Context) Status
	// Roster returns the cluster as this node knows it, the members in the order
	// of their names, without what only they themselves know. It does not block.
	Roster() ClusterView
	// Place returns where a conversation belongs: its partition, and the node that
	// the ring gives it to, "" for none. It does not block.
	Place(convo string) (partition int, node string)
	// Lease returns who holds the lease of a conversation, nil for nobody who
	// lives. An error says that it could not be found out, in bounded time.
	Lease(ctx context.Context, convo string) (*Hold, error)
	// Ask asks the node whose internal port is at address for its status. The
	// caller bounds it.
	Ask(ctx context.Context, address string) (Status, error)
}

func (a *API) getNode(r *http.Request) (int, any, error) {
	return http.StatusOK, a.cfg.Cluster.Status(r.Context()), nil
}

func (a *API) getCluster(r *http.Request) (int, any, error) {
	return http.StatusOK, a.survey(r.Context()), nil
}

func (a *API) getOwner(r *http.Request) (int, any, error) {
	id, err := conversation.ParseConvoID(r.URL.Query().Get("convoId"))
	if err != nil {
		return 0, nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	o, err := a.owner(ctx, id)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, o, nil
}
