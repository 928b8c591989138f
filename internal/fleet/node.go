package fleet

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Node is one life of a node. Its methods may be called from any goroutine.
type Node struct {
	Name string

	cmd   *exec.Cmd
	ready chan struct{}
	done  chan struct{} // closed when the process is gone

	mu                        sync.Mutex
	clients, internal, gossip string
	handed                    Handover
	last                      []string // lines of the log, the newest last
}

// Handover is what a node handed over once it was told to leave, by its own
// word: how many conversations, and when it began and had moved the last.
type Handover struct {
	Moved       int
	Began, Last time.Time
}

// Took returns how long it took.
func (h Handover) Took() time.Duration { return h.Last.Sub(h.Began) }

const (
	lastLines = 5
	maxLine   = 64 << 10 // bytes of one that is read
)

func newNode(name string, cmd *exec.Cmd) *Node {
	return &Node{Name: name, cmd: cmd, ready: make(chan struct{}), done: make(chan struct{})}
}

// Clients returns where the clients' API listens, host:port.
func (n *Node) Clients() string { return n.get(&n.clients) }

// Internal returns where the operators' API listens, host:port.
func (n *Node) Internal() string { return n.get(&n.internal) }

// Gossip returns where gossip listens, host:port; "" for a node alone.
func (n *Node) Gossip() string { return n.get(&n.gossip) }

func (n *Node) get(s *string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return *s
}

// Handed returns what the node has handed over so far.
func (n *Node) Handed() Handover {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.handed
}

// Ready is closed when the node has said that it is ready.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// Done is closed when the process is gone.
func (n *Node) Done() <-chan struct{} { return n.done }

// Signal sends a signal to the process.
func (n *Node) Signal(sig syscall.Signal) error {
	if err := n.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("sending %v to node %s: %w", sig, n.Name, err)
	}
	return nil
}

func (n *Node) kill() {
	_ = n.cmd.Process.Kill() // it may have ended by itself
	<-n.done
}

// ExitCode returns the exit code, -1 after a signal. It is to be called after Done.
func (n *Node) ExitCode() int { return n.cmd.ProcessState.ExitCode() }

// line is what is read of a line of the log.
type line struct {
	Message  string    `json:"msg"`
	Clients  string    `json:"clients"`
	Internal string    `json:"internal"`
	Address  string    `json:"address"`
	Time     time.Time `json:"time"`
	Moved    int       `json:"moved"`
}

// follow reads the log until the process ends.
func (n *Node) follow(r io.Reader, keep *os.File) {
	defer close(n.done)
	if keep != nil {
		defer keep.Close()
		r = io.TeeReader(r, keep)
	}
	lines := bufio.NewReaderSize(r, maxLine)
	for whole := true; ; {
		text, err := lines.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			break // the process is gone
		}
		if err == nil && whole {
			n.note(bytes.TrimSpace(text))
		}
		whole = err == nil // what is too long is left out
	}
	_ = n.cmd.Wait() // its exit code is in the ProcessState
}

func (n *Node) note(text []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last = append(n.last, string(text))
	if len(n.last) > lastLines {
		n.last = slices.Delete(n.last, 0, 1)
	}
	var l line
	if json.Unmarshal(text, &l) != nil {
		return
	}
	switch l.Message {
	case "node started":
		n.clients, n.internal = l.Clients, l.Internal
	case "gossip started":
		n.gossip = l.Address
	case "leaving":
		n.handed = Handover{Began: l.Time, Last: l.Time}
	case "handed conversations over":
		n.handed.Moved += l.Moved
		n.handed.Last = l.Time
	case "node ready":
		select {
		case <-n.ready:
		default:
			close(n.ready)
		}
	}
}

func (n *Node) lastWords() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.last, "\n")
}
