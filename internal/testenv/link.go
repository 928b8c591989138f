package testenv

import (
	"errors"
	"fmt"
	"os/exec"
)

// nobody is a hardware address that no host has: what is sent there is lost
// without a word.
const nobody = "02:00:00:00:00:ff"

// errNoShaping says that this machine cannot slow hosts down.
var errNoShaping = errors.New("slowing hosts down needs the program tc and a kernel with htb and u32")

// Lose makes all that h sends to the other host be lost without a word, until
// Find. What the other one sends still arrives at h.
func (h *Host) Lose(to *Host) error {
	return h.own.ip("neigh replace " + to.Addr + " lladdr " + nobody + " dev eth0 nud permanent")
}

// Find undoes Lose, and does nothing where nothing is lost.
func (h *Host) Find(to *Host) error {
	return h.own.ip("neigh flush to " + to.Addr + " dev eth0 nud permanent")
}

// Slow lets h send no more than bitsPerSecond to the other host, until Restore;
// where that is less than it has to say, it waits in a queue and is lost in the
// end. To all others it sends as before. One host at a time can be slow for h.
// The error says when this machine has no means for it.
func (h *Host) Slow(to *Host, bitsPerSecond int) error {
	if _, err := exec.LookPath("tc"); err != nil {
		return fmt.Errorf("%w: %w", errNoShaping, err)
	}
	err := h.own.batch("tc",
		unshaped,
		"qdisc replace dev eth0 root handle 1: htb default 1 r2q 1",
		"class add dev eth0 parent 1: classid 1:1 htb rate 10gbit quantum 60000",
		fmt.Sprintf("class add dev eth0 parent 1: classid 1:2 htb rate %dbit quantum 1500", bitsPerSecond),
		"qdisc add dev eth0 parent 1:2 handle 2: pfifo limit 64",
		"filter add dev eth0 parent 1: protocol ip prio 1 u32 match ip dst "+to.Addr+"/32 flowid 1:2",
	)
	if err != nil {
		_ = h.Restore() // what was done of it
		return fmt.Errorf("%w: %w", errNoShaping, err)
	}
	return nil
}

// unshaped makes the host send as fast as it can.
const unshaped = "qdisc replace dev eth0 root noqueue"

// Restore undoes Slow, and does nothing where nobody is slow.
func (h *Host) Restore() error { return h.own.batch("tc", unshaped) }
