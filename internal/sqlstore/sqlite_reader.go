package sqlstore

import "time"

const (
	// lookUps is how many look-ups may wait.
	lookUps = 4096
	// maxLookUps bounds how many look-ups share a transaction.
	maxLookUps = 64
	// lookUpWait is how long a caller waits for its look-up.
	lookUpWait = 5 * time.Second
)

// reader runs the look-ups of customers, which are many and short: those that
// wait run back to back on one connection, in one transaction, because beginning
// and ending one costs as much as a look-up does. It begins after each of them
// was asked for, so each sees all that was committed before. Other reads have
// connections of their own and do not hold these up.
func reader(q *queue[func(*sqliteConn) error], c *sqliteConn) {
	q.work(make([]*sqliteJob, 0, maxLookUps), func(jobs []*sqliteJob) {
		all := func() error {
			for _, j := range jobs {
				j.err = runJob(j, c)
			}
			return nil
		}
		if len(jobs) == 1 {
			_ = all()
			return
		}
		if err := c.snapshot(all); err != nil {
			for _, j := range jobs {
				j.err = err
			}
		}
	})
}
