// Package obs is what every part needs to be observed: the logger with a level
// per component, the metrics registry with the process's own figures, what sends
// traces to a collector, and the version of the build.
//
// A part gets its logger, its registerer and its tracers from whoever builds it;
// nothing here is global but the version, which the linker sets. The package does not
// know the parts.
package obs
