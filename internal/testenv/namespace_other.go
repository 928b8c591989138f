//go:build !linux

package testenv

import "errors"

var errNoNamespaces = errors.New("network namespaces need Linux")

type namespace struct{}

func newNamespace() (*namespace, error) { return nil, errNoNamespaces }

func (*namespace) do(func() error) error { return errNoNamespaces }
func (*namespace) path() string          { return "" }
func (*namespace) close()                {}
