package testenv

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// namespace is a network namespace without a name: it lives as long as it is
// open or something runs in it.
type namespace struct{ f *os.File }

func newNamespace() (*namespace, error) {
	ns := &namespace{}
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return fmt.Errorf("open a network namespace: %w", err)
		}
		ns.f = f
		return nil
	})
	if err != nil {
		return nil, err
	}
	return ns, nil
}

// do runs f in the namespace. What f opens or starts belongs there; goroutines
// that it starts do not.
func (ns *namespace) do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(ns.f.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter a network namespace: %w", err)
		}
		return f()
	})
}

// path is where other programs find the namespace, while this one runs.
func (ns *namespace) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.f.Fd()) }

func (ns *namespace) close() { _ = ns.f.Close() }

// onThread runs f on a thread that ends afterwards, since nobody else may go on
// where f has led it.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with its goroutine
		done <- f()
	}()
	return <-done
}
