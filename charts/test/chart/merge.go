package chart

// Merge returns a with b above it, as Helm lays one file of values over another:
// maps are joined, everything else is replaced. Neither is changed.
func Merge(a, b Values) Values {
	out := make(Values, len(a)+len(b))
	for key, value := range a {
		out[key] = value
	}
	for key, value := range b {
		below, isMap := out[key].(Values)
		above, wantsMap := value.(Values)
		if isMap && wantsMap {
			value = Merge(below, above)
		}
		out[key] = value
	}
	return out
}
