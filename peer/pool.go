package peer

import "sync"

// maxIdleWorkers is how many goroutines wait for work: enough to keep their
// grown stacks in use, few enough to cost nothing.
const maxIdleWorkers = 256

// pool runs functions on goroutines that it reuses. How many run at once is
// bounded by who calls it.
type pool struct {
	jobs chan *job
	done chan struct{}
	wg   sync.WaitGroup
	idle chan struct{} // as many as may wait
}

func newPool() *pool {
	return &pool{jobs: make(chan *job), done: make(chan struct{}), idle: make(chan struct{}, maxIdleWorkers)}
}

// run starts j; it does not block. Not to be called after stop.
func (p *pool) run(j *job) {
	select {
	case p.jobs <- j:
	default:
		p.wg.Go(func() { p.work(j) })
	}
}

func (p *pool) work(j *job) {
	for {
		j.run()
		select {
		case p.idle <- struct{}{}:
		default:
			return
		}
		select {
		case j = <-p.jobs:
			<-p.idle
		case <-p.done:
			return
		}
	}
}

// stop ends the goroutines and waits for them. It may be called twice.
func (p *pool) stop() {
	select {
	case <-p.done:
	default:
		close(p.done)
	}
	p.wg.Wait()
}
