package wire

import "fmt"

// Error says what is wrong with an input: the field, as a path like
// keyPackageHashes[2].hash, or "body", and what about it, for a person to read.
type Error struct {
	Field   string
	Problem string
}

// Error returns "field: problem".
func (e *Error) Error() string { return e.Field + ": " + e.Problem }

const body = "body" // stands for the field where the input as a whole is wrong

// fault makes an Error; the field is "" where the caller knows its name.
func fault(field, problem string) *Error { return &Error{Field: field, Problem: problem} }

// within puts a step of the path in front of the field of err.
func within(step string, err *Error) *Error {
	switch {
	case err.Field == body:
		return err
	case err.Field == "":
		return &Error{Field: step, Problem: err.Problem}
	case err.Field[0] == '[':
		return &Error{Field: step + err.Field, Problem: err.Problem}
	default:
		return &Error{Field: step + "." + err.Field, Problem: err.Problem}
	}
}

func index(i int) string { return fmt.Sprintf("[%d]", i) }
