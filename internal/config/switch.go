package config

import (
	"errors"

	"github.com/alecthomas/kong"
)

// Switch is a boolean that is written true, 1, false or 0 and in no other way:
// what turns a whole path of the service on must not depend on a parser's good
// will.
type Switch bool

var errSwitch = errors.New("must be true, 1, false or 0")

// ParseSwitch reads a Switch.
func ParseSwitch(s string) (Switch, error) {
	switch s {
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	default:
		return false, errSwitch
	}
}

// IsBool lets --flag stand for --flag=true.
func (s *Switch) IsBool() bool { return true }

// Decode reads the value of a flag or of its variable.
func (s *Switch) Decode(ctx *kong.DecodeContext) error {
	*s = true
	if ctx.Scan.Peek().Type != kong.FlagValueToken {
		return nil
	}
	text, ok := ctx.Scan.Pop().Value.(string)
	if !ok {
		return errSwitch
	}
	v, err := ParseSwitch(text)
	if err != nil {
		return err
	}
	*s = v
	return nil
}
