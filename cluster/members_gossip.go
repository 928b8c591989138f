package cluster

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
)

// MembersConfig is what Members needs. Name and Logger are required.
type MembersConfig struct {
	// Name is the node's name: unique in the cluster, the same over restarts.
	Name string
	// BindHost is the address to listen on, an IP address or a name of one; ""
	// means all. BindPort serves UDP and TCP; 0 takes any free one.
	BindHost string
	BindPort int
	// Advertise is where others reach this node, host or host:port; "" means
	// BindHost, or the first private address where that is all.
	Advertise string
	// InternalAddress is the host:port of the node's internal API.
	InternalAddress string
	// Join lists nodes to join, host or host:port; a DNS name stands for all
	// its addresses, looked up anew at each try.
	Join []string
	// Keys encrypt gossip: the first one encrypts, all decrypt. None: plain.
	Keys [][]byte
	// Label keeps apart clusters that share a network; at most 255 bytes.
	Label string

	Version        string
	ActorsEnabled  bool
	RolloutPercent int

	// Resolver looks names up; nil means the system's.
	Resolver Resolver
	// SeekEvery is how often a node that has company looks for members that it
	// has lost sight of; 0 means every 30 s.
	SeekEvery time.Duration

	Logger *slog.Logger
	// Registerer takes the metrics; nil keeps them private.
	Registerer prometheus.Registerer

	// network is what gossip goes through; nil means sockets.
	network network
	// transport wraps the node's end of it, for tests that cut it.
	transport func(memberlist.NodeAwareTransport) memberlist.NodeAwareTransport
}

const (
	defaultSeekEvery = 30 * time.Second
	// updateTimeout bounds the library's wait for an update to be sent, which
	// helps nobody here: it goes on being sent afterwards.
	updateTimeout = 100 * time.Millisecond
	leaveTimeout  = 2 * time.Second
)

// Members is a membership by gossip.
//
// In gossip a node bears its name with a suffix for this life, since the
// library would refuse a name that comes back with another address until the
// old one has left. Name and start are in the metadata, and of two lives of a
// name the younger one counts, see [Members.Start].
type Members struct {
	bell
	cfg     MembersConfig
	log     *slog.Logger
	metrics *membersMetrics
	gossip  string // the name of this life

	lifecycle sync.Mutex // serializes Start, Leave and Stop
	list      atomic.Pointer[memberlist.Memberlist]
	cancel    context.CancelFunc
	wg        sync.WaitGroup
	left      atomic.Bool
	stopped   bool // guarded by lifecycle

	// mu is taken inside the library's callbacks, under the library's locks:
	// nobody calls the library while holding it.
	mu     sync.Mutex
	self   life
	lives  map[string]life      // of others, by the name in gossip
	lost   map[string]time.Time // gossip addresses that vanished without leaving
	asking map[nonce]chan life  // questions without an answer yet

	meta    atomic.Pointer[[]byte] // self, encoded
	view    atomic.Pointer[Roster]
	dirty   chan struct{} // lives changed
	publish chan struct{} // meta changed
	doubts  chan struct{} // there may be two of this name
	asked   chan question // whether this life lives

	answerTimeout time.Duration

	evictOnce sync.Once
	evicted   chan struct{}
	evictErr  error // set before evicted is closed
}

// NewMembers checks cfg and returns a membership that has not started. Its
// view holds this node alone, joining.
func NewMembers(cfg MembersConfig) (*Members, error) {
	if cfg.Resolver == nil {
		cfg.Resolver = systemResolver
	}
	if cfg.network == nil {
		cfg.network = sockets{}
	}
	if cfg.SeekEvery <= 0 {
		cfg.SeekEvery = defaultSeekEvery
	}
	m := &Members{
		cfg: cfg,
		log: cfg.Logger.With("component", "cluster"),
		self: life{unsure: true, Member: Member{
			Name:            cfg.Name,
			Started:         lifeStart(time.Now()),
			State:           Joining,
			InternalAddress: cfg.InternalAddress,
			ActorsEnabled:   cfg.ActorsEnabled,
			RolloutPercent:  cfg.RolloutPercent,
			Version:         cfg.Version,
		}},
		lives:   map[string]life{},
		lost:    map[string]time.Time{},
		asking:  map[nonce]chan life{},
		dirty:   make(chan struct{}, 1),
		publish: make(chan struct{}, 1),
		doubts:  make(chan struct{}, 1),
		asked:   make(chan question, maxAsked),
		evicted: make(chan struct{}),

		answerTimeout: defaultAnswerTimeout,
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	var suffix [4]byte
	if _, err := rand.Read(suffix[:]); err != nil {
		return nil, fmt.Errorf("naming this life: %w", err)
	}
	m.gossip = cfg.Name + "~" + hex.EncodeToString(suffix[:])
	m.metrics = newMembersMetrics(cfg.Registerer, m.health)
	m.encodeLocked()
	m.rebuild()
	return m, nil
}

func (m *Members) check() error {
	if err := m.self.check(); err != nil {
		return fmt.Errorf("members: %w", err)
	}
	if len(m.cfg.Label) > memberlist.LabelMaxSize {
		return fmt.Errorf("members: label has more than %d bytes", memberlist.LabelMaxSize)
	}
	for i, key := range m.cfg.Keys {
		if !keySize(len(key)) {
			return fmt.Errorf("members: gossip key %d has %d bytes; 16, 24 and 32 are allowed", i+1, len(key))
		}
	}
	for _, address := range m.cfg.Join {
		if _, _, err := splitAddress(address, 1); err != nil {
			return fmt.Errorf("members: join %q: %w", address, err)
		}
	}
	return nil
}

// Start listens, tries once to join the others and makes sure that the node's
// name is free. It returns a *[NameTakenError] when another node of that name
// answers, and nil when nobody answers at all: then this is a cluster of one,
// which goes on trying in the background. It takes up to about 6 s where
// addresses to join do not even refuse; ctx bounds it further.
//
// A node of the same name that does not answer is a life before this one. It
// is outranked at once, whether the others have noticed its end or not.
func (m *Members) Start(ctx context.Context) error {
	m.lifecycle.Lock()
	defer m.lifecycle.Unlock()
	if m.list.Load() != nil || m.stopped {
		return errors.New("members: already started or stopped")
	}
	run, cancel := context.WithCancel(context.Background())
	list, err := m.listen(ctx, run)
	if err != nil {
		cancel()
		return fmt.Errorf("starting gossip: %w", err)
	}
	m.list.Store(list)
	m.cancel = cancel
	m.wg.Go(func() { m.attend(run) })
	m.wg.Go(func() { m.announce(run) })
	if err := m.enter(ctx); err != nil {
		m.leaveLocked(ctx)
		return errors.Join(err, m.stopLocked(ctx))
	}
	m.wg.Go(func() { m.seek(run) })
	m.wg.Go(func() { m.judge(run) })
	m.log.Info("gossip started", "node", m.cfg.Name, "address", m.View().Self().GossipAddress, "members", len(m.View().Members()))
	return nil
}

// enter makes the first round of joining and of asking for the name.
func (m *Members) enter(ctx context.Context) error {
	m.seekOnce(ctx)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("joining: %w", context.Cause(ctx))
	}
	if m.others() == 0 {
		if len(m.cfg.Join) > 0 {
			m.log.Info("nobody to join has answered yet, starting alone")
		}
		return nil
	}
	return m.settle(ctx)
}

// View returns the newest picture; it does not block or allocate.
func (m *Members) View() *Roster { return m.view.Load() }

// SetState tells the others the node's state. It returns at once; the own view
// has changed then, the others' follow within about half a second.
func (m *Members) SetState(s MemberState) {
	m.change(func(l *life) { l.State = s })
}

// SetActors tells the others the node's flag and percentage, as SetState does.
func (m *Members) SetActors(enabled bool, rolloutPercent int) {
	m.change(func(l *life) { l.ActorsEnabled, l.RolloutPercent = enabled, min(max(rolloutPercent, 0), 100) })
}

// Evicted is closed when another life of this node's name counts and answers:
// this one was frozen or cut off long enough to be replaced, or two nodes
// were given one name while they could not see each other. The younger one
// stays.
func (m *Members) Evicted() <-chan struct{} { return m.evicted }

// Err returns why this life was evicted, a *[NameTakenError], nil while it was
// not.
func (m *Members) Err() error {
	select {
	case <-m.evicted:
		return m.evictErr
	default:
		return nil
	}
}

// Leave tells the others that this node is gone and waits until some were
// told, at most 2 s; whom that does not reach notices by itself. The node goes
// on answering gossip until Stop. It does not fail.
func (m *Members) Leave(ctx context.Context) error {
	m.lifecycle.Lock()
	defer m.lifecycle.Unlock()
	m.leaveLocked(ctx)
	return nil
}

func (m *Members) leaveLocked(ctx context.Context) {
	list := m.list.Load()
	if list == nil || m.stopped || m.left.Swap(true) {
		return // the library panics when asked to leave after its end
	}
	timeout := leaveTimeout
	if end, ok := ctx.Deadline(); ok {
		timeout = min(timeout, max(time.Until(end), time.Millisecond)) // 0 would wait for ever
	}
	told := list.Leave(timeout) == nil // all that can go wrong is that time is up
	m.log.Info("left gossip", "told", told)
}

// Stop closes the listeners and waits for what runs, until ctx ends. Without
// Leave before, the others take it for a crash. It may be called twice, and
// without Start. The library's own goroutines end within some 2 s more.
func (m *Members) Stop(ctx context.Context) error {
	m.lifecycle.Lock()
	defer m.lifecycle.Unlock()
	return m.stopLocked(ctx)
}

func (m *Members) stopLocked(ctx context.Context) error {
	list := m.list.Load()
	if list == nil || m.stopped {
		m.stopped = true
		return nil
	}
	m.stopped = true
	m.cancel()
	if err := list.Shutdown(); err != nil {
		return fmt.Errorf("stopping gossip: %w", err)
	}
	done := make(chan struct{})
	go func() {
		m.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stopping gossip: %w", context.Cause(ctx))
	}
}

// change alters what this node says of itself.
func (m *Members) change(f func(*life)) {
	m.mu.Lock()
	f(&m.self)
	m.encodeLocked()
	m.mu.Unlock()
	m.rebuild()
	wake(m.publish)
}

func (m *Members) encodeLocked() {
	b := m.self.encode()
	m.meta.Store(&b)
}

// rebuild publishes a new view if lives or self have changed.
func (m *Members) rebuild() {
	m.mu.Lock()
	next := newRoster(m.self.Name, m.countedLocked())
	old := m.view.Load()
	changed := old == nil || !next.equal(old)
	if changed {
		m.metrics.count(next)
		m.view.Store(next)
	}
	m.mu.Unlock()
	if changed {
		m.wakeAll()
	}
}

// countedLocked returns the one life of each name that counts; for the own
// name that is this one.
func (m *Members) countedLocked() []Member {
	best := make(map[string]string, len(m.lives)) // names in gossip
	for gossip, l := range m.lives {
		other, taken := best[l.Name]
		if l.Name != m.self.Name && (!taken || l.outranks(gossip, m.lives[other], other)) {
			best[l.Name] = gossip
		}
	}
	members := make([]Member, 0, len(best)+1)
	for _, gossip := range best {
		members = append(members, m.lives[gossip].Member)
	}
	return append(members, m.self.Member)
}

// outranks reports whether l, called name in gossip, counts before o of the
// same node name. All nodes that see both agree.
func (l life) outranks(name string, o life, oName string) bool {
	if l.unsure != o.unsure {
		return !l.unsure
	}
	if !l.Started.Equal(o.Started) {
		return l.Started.After(o.Started)
	}
	return name > oName
}

func (m *Members) others() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.lives)
}

func (m *Members) health() float64 {
	if list := m.list.Load(); list != nil {
		return float64(list.GetHealthScore())
	}
	return 0
}

// attend turns what the callbacks noted into views, and answers questions.
func (m *Members) attend(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.dirty:
			m.rebuild()
			wake(m.doubts)
		case q := <-m.asked:
			m.answer(q)
		}
	}
}

// announce sends changed metadata; the library blocks until some others have
// it, which SetState must not.
func (m *Members) announce(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.publish:
			if m.left.Load() {
				continue
			}
			if err := m.list.Load().UpdateNode(updateTimeout); err != nil {
				m.log.Debug("update is slow to spread", "error", err)
			}
		}
	}
}
