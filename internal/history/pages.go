package history

const rulePages = "a row of the log never changes: whoever reads a seq reads the same"

// checkPages compares what pages show of the same seq. The model cannot: it
// does not know the ids of rows that nobody was told.
func (s subject) checkPages() []Violation {
	type sight struct {
		row Row
		op  int
	}
	seen := map[int64]sight{}
	for _, r := range s.convo.Rows {
		seen[r.Seq] = sight{r, -1}
	}
	for i := range s.ops {
		for _, r := range s.ops[i].Output.Rows {
			first, known := seen[r.Seq]
			if !known {
				seen[r.Seq] = sight{r, i}
				continue
			}
			if first.row == r {
				continue
			}
			var ops []Op
			if first.op >= 0 {
				ops = append(ops, s.ops[first.op].only(r.Seq))
			}
			ops = append(ops, s.ops[i].only(r.Seq))
			return []Violation{{Convo: s.convo.ID, Rule: rulePages, Ops: ops, Text: lines(ops)}}
		}
	}
	return nil
}

// only is a read of a page of which one row matters.
func (op Op) only(seq int64) Op {
	var rows []Row
	for _, r := range op.Output.Rows {
		if r.Seq == seq {
			rows = append(rows, r)
		}
	}
	op.Output.Rows = rows
	return op
}
