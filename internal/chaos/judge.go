package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"catbird/conversation"
	"catbird/internal/history"
)

// perConvo is how long deciding one conversation's history may take.
const perConvo = 2 * time.Minute

// judge reads everything back, now that nothing is wrong any more, and holds the
// run to what is promised.
func (t *theatre) judge(ctx context.Context) (Verdict, error) {
	t.report.say("reading everything back")
	last := t.rec.Now()
	v := Verdict{Seed: t.opt.Seed, Dir: t.opt.Dir, Took: last}
	for _, what := range t.nemesis.faults {
		v.Findings = append(v.Findings, Finding{Rule: "the cluster finds back to order by itself", Text: what})
	}
	v.Findings = append(v.Findings, t.readBack(ctx)...)
	v.Findings = append(v.Findings, t.checkUnread(ctx)...)
	t.owners.end()
	tenures := t.owners.tenures()
	for _, s := range tenures {
		t.rec.Serving(s)
	}
	v.Tenures = len(tenures)
	if err := t.judgeData(ctx, &v); err != nil {
		return v, err
	}
	h := t.rec.History()
	t.report.say("checking %d attempts for linearizability", len(h.Ops))
	found, err := history.Check(ctx, h, history.CheckConfig{PerConvo: perConvo, Dir: filepath.Join(t.opt.Dir, violationDir)})
	if err != nil {
		return v, fmt.Errorf("checking the history: %w", err)
	}
	for _, f := range found.Violations {
		v.Findings = append(v.Findings, Finding{Rule: f.Rule, Convo: f.Convo, Text: f.Text, Files: f.Files})
	}
	for _, r := range found.Results {
		if r.Verdict == history.Undecided {
			v.Undecided = append(v.Undecided, r.Convo)
		}
	}
	t.sumUp(&v, h.Ops, last)
	return v, t.report.verdict(v)
}

// sumUp fills in the figures, of the attempts up to when reading back began, and
// not of those that came too late for a node that left.
func (t *theatre) sumUp(v *Verdict, all []history.Op, until time.Duration) {
	ops := slices.DeleteFunc(slices.Clone(all), func(op history.Op) bool { return op.Call > until })
	made := len(ops)
	ops = slices.DeleteFunc(ops, t.late)
	v.Late = made - len(ops)
	v.Requests, v.Answers, v.Doors = len(ops), count(ops), doorsOf(ops)
	for _, a := range v.Answers {
		if a.Code == conversation.InternalServerError {
			v.Findings = append(v.Findings, Finding{Rule: "nothing is answered with a fault of ours", Text: fmt.Sprintf("%d attempts were", a.Count)})
		}
	}
	calm, troubled := split(ops, t.nemesis.spells)
	v.Calm, v.Troubled = latencies(calm), latencies(troubled)
	v.Faults = faultRows(ops, t.nemesis.spells)
}

// judgeData looks into the database, through a node and by itself.
func (t *theatre) judgeData(ctx context.Context, v *Verdict) error {
	o, err := t.ground.operator(t.ground.running()[0])
	if err != nil {
		return err
	}
	damage, err := o.Integrity(ctx, "")
	if err != nil {
		return fmt.Errorf("looking through the data: %w", err)
	}
	if !damage.Clean() {
		text, err := json.MarshalIndent(damage, "", "  ")
		if err != nil {
			return fmt.Errorf("telling what is damaged: %w", err)
		}
		v.Findings = append(v.Findings, Finding{Rule: "the data is whole", Text: string(text)})
	}
	steps, err := t.ground.readTrail(ctx)
	if err != nil {
		return err
	}
	logs, err := t.ground.readLogs(ctx)
	if err != nil {
		return err
	}
	crashes, err := checkNodes(t.report.nodes)
	if err != nil {
		return err
	}
	v.Findings = append(v.Findings, crashes...)
	v.Steps, v.Rows = len(steps), len(logs)
	v.Findings = append(v.Findings, checkTrail(steps)...)
	v.Findings = append(v.Findings, checkLedger(t.rec.History().Ops, logs)...)
	return nil
}

// readBack asks every node for every conversation's epoch and reads every log
// once, as part of the history: what is read now must fit all that was told.
func (t *theatre) readBack(ctx context.Context) (found []Finding) {
	names := t.crowd.doors.open()
	for i, c := range t.topics {
		for _, name := range names {
			op := history.Op{Convo: c.id, Caller: c.creator(), Kind: history.GetEpoch}
			if out := t.insist(ctx, name, op); out.Outcome != history.Succeeded {
				found = append(found, Finding{
					Rule: worksAgain, Convo: c.id,
					Text: fmt.Sprintf("getEpoch at node %s: %s %s", name, out.Outcome, out.Code),
				})
			}
		}
		found = append(found, t.readLog(ctx, names[i%len(names)], c)...)
	}
	return found
}

// wholePage is the most rows that a page may have.
const wholePage = 100

func (t *theatre) readLog(ctx context.Context, node string, c *topic) []Finding {
	for since := int64(0); ; {
		op := history.Op{Convo: c.id, Caller: c.creator(), Kind: history.GetMessages, Input: history.Input{Since: new(since), Limit: wholePage}}
		out := t.insist(ctx, node, op)
		if out.Outcome != history.Succeeded {
			return []Finding{{
				Rule: worksAgain, Convo: c.id,
				Text: fmt.Sprintf("getMessages at node %s: %s %s", node, out.Outcome, out.Code),
			}}
		}
		if len(out.Rows) == 0 {
			return nil
		}
		since = out.Rows[len(out.Rows)-1].Seq
	}
}

// insist asks until it is answered, for a while.
func (t *theatre) insist(ctx context.Context, node string, op history.Op) (out history.Output) {
	ctx, cancel := context.WithTimeout(ctx, recovery)
	defer cancel()
	op.Client, op.Node = int(t.crowd.next.Add(1)-1), node
	for {
		out = ask(ctx, t.rec, t.crowd.doors.through(node), op)
		if out.Outcome == history.Succeeded || out.Outcome == history.Refused || !pause(ctx, retryPause) {
			return out
		}
	}
}
