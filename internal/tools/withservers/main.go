// Command withservers runs a command with a PostgreSQL and a Redis that all of
// its processes share: those that TEST_DATABASE_URL and TEST_REDIS_URL name, or
// some that it starts and stops again. Where their programs, or the C compiler
// that the race detector needs, are missing and root can get them by apt, it
// does. It exits as the command does, and with 1 and one line when it cannot
// provide what the command needs.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"catbird/internal/testenv"
	"catbird/internal/tools/apt"
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "usage: withservers [--] command [argument ...]")
		return 2
	}
	// An interrupt at the terminal reaches the command too; servers are stopped
	// when it has ended.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	env, closeAll, err := provide(ctx)
	defer closeAll()
	if err != nil {
		fmt.Fprintln(os.Stderr, "withservers:", err)
		return 1
	}
	return execute(args, env)
}

// service is a server that tests need.
type service struct {
	variable string
	packages []string // of Debian
	start    func() (*testenv.Server, error)
}

var services = []service{
	{"TEST_DATABASE_URL", []string{"postgresql"}, testenv.StartPostgres},
	{"TEST_REDIS_URL", []string{"redis-server"}, testenv.StartRedis},
}

// provide returns the environment that leads to the servers, and what stops
// those that it started, also beside an error.
func provide(ctx context.Context) (env []string, closeAll func(), err error) {
	var started []*testenv.Server
	closeAll = func() {
		for _, s := range started {
			s.Close()
		}
	}
	var missing []string
	if _, err := exec.LookPath("gcc"); err != nil && os.Getenv("CC") == "" {
		missing = append(missing, "gcc", "libc6-dev")
	}
	if err := apt.Ensure(ctx, says{}, missing, errors.New("the race detector needs a C compiler (apt-get install gcc libc6-dev)")); err != nil {
		return nil, closeAll, err
	}
	for _, s := range services {
		if os.Getenv(s.variable) != "" {
			continue
		}
		server, err := s.start()
		if err != nil {
			if err := apt.Ensure(ctx, says{}, s.packages, err); err != nil {
				return nil, closeAll, err
			}
			if server, err = s.start(); err != nil {
				return nil, closeAll, err
			}
		}
		started = append(started, server)
		env = append(env, s.variable+"="+server.URL())
	}
	return env, closeAll, nil
}

// says puts this command's name before what is said.
type says struct{}

func (says) Write(p []byte) (int, error) {
	_, err := fmt.Fprintf(os.Stderr, "withservers: %s", p)
	return len(p), err
}

func execute(args, env []string) int {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), env...)
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode()
	default:
		fmt.Fprintln(os.Stderr, "withservers:", err)
		return 1
	}
}
