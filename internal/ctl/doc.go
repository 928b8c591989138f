// Package ctl is what the operator's tool is made of: a client of the operator
// API, and tables for a terminal. It does not know how a node works.
package ctl
