package testenv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Server is a server process that the caller owns. Its methods may be called
// from several goroutines, but one after another.
type Server struct {
	name    string
	url     string
	dir     string
	program []string
	stopBy  string // the signal that ends it in order
	killBy  syscall.Signal
	account *account
	ready   func(ctx context.Context, url string) error

	mu    sync.Mutex
	run   *exec.Cmd // the shell, nil while down
	stdin *os.File  // the shell ends the server when this closes
}

// patience bounds starting and stopping.
const patience = 60 * time.Second

// keeper runs a server until standard input ends. Unless told to keep it, the
// directory goes too.
const keeper = `
"$@" </dev/null >>"$DIR/log" 2>&1 &
pid=$!
echo $pid >"$DIR/pid"
read -r word
for p in $pid $(ps -A -o pid=,ppid= | awk -v p=$pid '$2 == p { print $1 }'); do
	kill -s CONT $p 2>/dev/null # it may be frozen
done
kill -s "$STOP_BY" $pid 2>/dev/null
wait $pid
[ "$word" = keep ] || rm -rf "$DIR"
`

// account is another user to run as: PostgreSQL refuses to run as root.
type account struct{ uid, gid uint32 }

// unprivileged returns whom to run as: nil, oneself, unless one is root.
func unprivileged() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil && uid != 0 {
			return &account{uint32(uid), uint32(gid)}, nil
		}
	}
	return nil, errors.New("running as root, and there is no user postgres or nobody to start PostgreSQL as")
}

func (a *account) apply(c *exec.Cmd) {
	// A group of its own: an interrupt at the terminal is the test's to handle.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if a != nil {
		c.SysProcAttr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
		c.Env = append(os.Environ(), "HOME=/")
	}
}

// workdir returns a new directory that the account may write to.
func workdir(name string, a *account) (string, error) {
	dir, err := os.MkdirTemp("", "catbird-"+name+"-")
	if err != nil {
		return "", fmt.Errorf("make a directory for %s: %w", name, err)
	}
	if a != nil {
		if err := os.Chown(dir, int(a.uid), int(a.gid)); err != nil {
			return "", fmt.Errorf("hand the directory of %s over: %w", name, err)
		}
	}
	return dir, nil
}

// freeAddress returns an address of the loopback that nobody listens on.
func freeAddress() (host, port string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return net.SplitHostPort(l.Addr().String())
}

// URL returns where the server is reached.
func (s *Server) URL() string { return s.url }

// Start starts the server after Stop or Kill, with the data it had, and waits
// until it answers. It does nothing while the server runs.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run != nil {
		return nil
	}
	stdin, input, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	defer stdin.Close()
	_ = os.Remove(filepath.Join(s.dir, "pid"))
	c := exec.Command("/bin/sh", append([]string{"-c", keeper, "keeper"}, s.program...)...)
	s.account.apply(c)
	c.Dir = s.dir
	if c.Env == nil {
		c.Env = os.Environ()
	}
	c.Env = append(c.Env, "DIR="+s.dir, "STOP_BY="+s.stopBy, "LC_ALL=C")
	c.Stdin = stdin
	if err := c.Start(); err != nil {
		input.Close()
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	s.run, s.stdin = c, input
	if err := s.await(); err != nil {
		log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
		s.end("")
		return fmt.Errorf("%s does not answer: %w\n%s", s.name, err, tail(string(log), 2000))
	}
	return nil
}

func tail(s string, n int) string {
	if len(s) > n {
		s = s[len(s)-n:]
	}
	return s
}

// await asks until the server answers.
func (s *Server) await() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		err := s.ready(ctx, s.url)
		if err == nil {
			return nil
		}
		if pid, perr := s.pid(); perr == nil && !alive(pid) {
			return errors.New("it ended at once")
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop ends the server in order and keeps its data for the next Start.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end("keep")
}

// Kill ends the server as a crash does and waits until it is gone. Its data
// stays for the next Start, as the crash left it.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if pid, err := s.pid(); err == nil && s.run != nil {
		_ = syscall.Kill(pid, s.killBy)
	}
	s.end("keep")
}

// Restart stops the server and starts it again.
func (s *Server) Restart() error {
	s.Stop()
	return s.Start()
}

// Close ends the server and removes its data.
func (s *Server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end("")
	_ = os.RemoveAll(s.dir)
}

// end lets the shell end the server, and waits for both.
func (s *Server) end(word string) {
	if s.run == nil {
		return
	}
	if word != "" {
		fmt.Fprintln(s.stdin, word)
	}
	s.stdin.Close()
	_ = s.run.Wait()
	s.run, s.stdin = nil, nil
}

// Freeze stops every process of the server where it is: it keeps its
// connections and answers nothing.
func (s *Server) Freeze() error { return s.signal(syscall.SIGSTOP) }

// Thaw lets a frozen server go on.
func (s *Server) Thaw() error { return s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	pid, err := s.pid()
	if err != nil {
		return err
	}
	// The parent first: once stopped, it starts no more children.
	if err := syscall.Kill(pid, sig); err != nil {
		return fmt.Errorf("signal %s: %w", s.name, err)
	}
	for _, child := range children(pid) {
		_ = syscall.Kill(child, sig) // it may have ended meanwhile
	}
	return nil
}

func (s *Server) pid() (int, error) {
	b, err := os.ReadFile(filepath.Join(s.dir, "pid"))
	if err != nil {
		return 0, fmt.Errorf("%s is not running: %w", s.name, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 {
		return 0, fmt.Errorf("%s is not running", s.name)
	}
	return pid, nil
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// children returns the processes that pid has started.
func children(pid int) []int {
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=").Output()
	if err != nil {
		return childrenByProc(pid)
	}
	var found []int
	for line := range strings.Lines(string(out)) {
		var child, parent int
		if _, err := fmt.Sscan(line, &child, &parent); err == nil && parent == pid {
			found = append(found, child)
		}
	}
	return found
}

// childrenByProc does without ps, which small machines lack.
func childrenByProc(pid int) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var found []int
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		// "pid (name) state ppid ...", and a name may hold anything
		_, rest, _ := strings.Cut(string(b[strings.LastIndexByte(string(b), ')')+1:]), " ")
		fields := strings.Fields(rest)
		if len(fields) < 2 || fields[1] != strconv.Itoa(pid) {
			continue
		}
		if child, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			found = append(found, child)
		}
	}
	return found
}
