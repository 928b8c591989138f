// Package readme makes the table of a chart's values from the comments in its
// values.yaml, and finds values that nobody has explained. It does not know what
// they do.
package readme
