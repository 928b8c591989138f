package history

import (
	"fmt"
	"strings"
)

// String says an operation in one line, without its times.
func (op *Op) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s(", op.Kind)
	b.WriteString(strings.Join(op.asked(), " "))
	fmt.Fprintf(&b, ") by %s -> %s", op.Caller, op.Output)
	return b.String()
}

func (op *Op) asked() (args []string) {
	in := op.Input
	if in.Epoch != nil {
		args = append(args, fmt.Sprintf("epoch=%d", *in.Epoch))
	}
	if len(in.DIDs) > 0 {
		args = append(args, strings.Join(in.DIDs, ","))
	}
	if in.Since != nil {
		args = append(args, fmt.Sprintf("since=%d", *in.Since))
	}
	if in.Limit != 0 {
		args = append(args, fmt.Sprintf("limit=%d", in.Limit))
	}
	if in.Payload != "" {
		args = append(args, fmt.Sprintf("%q", in.Payload))
	}
	if in.Key != "" {
		args = append(args, "key="+in.Key)
	}
	return args
}

// String says what a client was told.
func (o Output) String() string {
	switch {
	case o.Outcome == Unknown && o.Seq != 0:
		return fmt.Sprintf("unknown, but stored at seq %d", o.Seq)
	case o.Outcome == Unknown:
		return strings.TrimSpace("unknown " + string(o.Code))
	case o.Code != "" && o.Epoch != 0:
		return fmt.Sprintf("%s, epoch %d", o.Code, o.Epoch)
	case o.Code != "":
		return string(o.Code)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "epoch %d", o.Epoch)
	if o.Seq != 0 {
		fmt.Fprintf(&b, ", seq %d", o.Seq)
	}
	for _, r := range o.Rows {
		fmt.Fprintf(&b, "\n    %s", r)
	}
	return b.String()
}

// String says a row in one line.
func (r Row) String() string {
	return fmt.Sprintf("seq %d epoch %d %s by %s %q %s", r.Seq, r.Epoch, r.Kind, r.Sender, r.Payload, r.ID)
}

// line says an operation with its times.
func (op *Op) line() string {
	until := op.Return.String()
	if op.Output.Outcome == Unknown {
		until = "ever"
	}
	return fmt.Sprintf("%s to %s  #%d client %d at %s: %s", op.Call, until, op.ID, op.Client, op.Node, op)
}
