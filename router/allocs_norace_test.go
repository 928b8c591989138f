//go:build !race

package router

// getEpochAllocs is how often getEpoch allocated before there were traces.
const getEpochAllocs = 11
