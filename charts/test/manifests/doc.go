// Package manifests turns what the chart renders into plain manifests for
// kubectl: a base, and overlays that change it by strategic merge patches. An
// overlay is made of values like the chart's, so both say the same. It does not
// know what is in the objects.
package manifests
