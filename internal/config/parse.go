package config

import (
	"fmt"
	"os"
	"strings"

	"github.com/alecthomas/kong"
)

// Help describes a flag with its default and its variable, for --help.
func Help(v *kong.Value) string {
	text := v.Help
	if v.HasDefault {
		text = strings.TrimSuffix(text, ".") + " (default " + v.Default + ")."
	}
	for _, env := range v.Tag.Envs {
		text += " $" + env
	}
	return text
}

// Default returns the settings with no flag given and no variable read.
func Default() Config {
	var c Config
	k, err := kong.New(&c, kong.Exit(func(int) {}))
	if err != nil {
		panic("config: the declaration does not parse: " + err.Error()) // a test parses it
	}
	for _, f := range k.Model.Flags {
		f.Tag.Envs = nil
	}
	if _, err := k.Parse(nil); err != nil {
		panic("config: the defaults do not parse: " + err.Error())
	}
	return c
}

// FromEnvironment returns the settings that the variables of this process give,
// complete and checked.
func FromEnvironment() (Config, error) {
	var c Config
	k, err := kong.New(&c, kong.Exit(func(int) {}))
	if err != nil {
		panic("config: the declaration does not parse: " + err.Error())
	}
	if _, err := k.Parse(nil); err != nil {
		return c, err
	}
	if err := c.Complete(); err != nil {
		return c, err
	}
	return c, c.Check()
}

// Vars returns the variables of the declaration, in its order.
func Vars() []string {
	var c Config
	k, err := kong.New(&c, kong.Exit(func(int) {}))
	if err != nil {
		panic("config: the declaration does not parse: " + err.Error())
	}
	var vars []string
	for _, f := range k.Model.Flags {
		vars = append(vars, f.Tag.Envs...)
	}
	return vars
}

// ForgetEmpty unsets the variables that are set to nothing, which is how
// templates write "not set". ENABLE_ACTOR_SYSTEM is left to be refused: it must
// say what it means. Call it before parsing, while nothing else runs.
func ForgetEmpty() error {
	for _, name := range Vars() {
		if v, ok := os.LookupEnv(name); ok && v == "" && name != "ENABLE_ACTOR_SYSTEM" {
			if err := os.Unsetenv(name); err != nil {
				return fmt.Errorf("unsetting %s: %w", name, err)
			}
		}
	}
	return nil
}
