// Package config is what an operator sets: flags, the environment variables
// behind them, their defaults, and what values they may have. The names of the
// variables are a contract with those who run the service.
//
// [Config] is declared for the kong parser, so that the declaration is also
// the help text. A value that cannot be used is an error of one line that names
// its variable and never repeats a secret.
//
// The package does not know what the parts do with their settings.
package config
