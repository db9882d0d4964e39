package sqlstore

import (
	"errors"
	"time"

	"grahak"
)

const (
	// lookUps is how many look-ups may wait.
	lookUps = 4096
	// maxLookUps bounds how many look-ups share a transaction.
	maxLookUps = 64
	// lookUpWait is how long a caller waits for its look-up.
	lookUpWait = 5 * time.Second
)

// sqliteLookUp is the look-up of a customer by id and, if there is none, by reference.
type sqliteLookUp struct {
	merchant  grahak.MerchantID
	id        grahak.CustomerID // empty for none
	reference grahak.Index      // zero for none
	found     grahak.CustomerRecord
}

// run finds the customer, or returns [errCustomerNotFound].
func (l *sqliteLookUp) run(c *sqliteConn) (err error) {
	defer recovered(&err)
	err = errCustomerNotFound
	if l.id != "" {
		l.found, err = c.customer(customerByID, string(l.merchant), string(l.id))
	}
	if errors.Is(err, errCustomerNotFound) && l.reference != (grahak.Index{}) {
		l.found, err = c.customer(customerByReference, string(l.merchant), l.reference[:])
	}
	return err
}

// startLookUps begins to run look-ups of customers on the connections, the first of which
// does all of them as long as it keeps up: it has more of the database in its cache than
// each of several, and more look-ups in a transaction. The others help when the disk is
// slow, or where there are processors for more.
func (s *SQLite) startLookUps(conns []*sqliteConn) {
	s.lookUps = newQueue[*sqliteLookUp]("reads", lookUps, lookUpWait)
	s.lookUps.workers.Add(len(conns))
	for i, c := range conns {
		run := s.lookUps.work
		if i > 0 {
			run = s.lookUps.help
		}
		go run(make([]*job[*sqliteLookUp], 0, maxLookUps), s.lookUps.asking(c.lookUp))
	}
}

// lookUp runs the look-ups of customers, which are many and short: those that
// wait run back to back on one connection, in one transaction, because beginning
// and ending one costs as much as a look-up does. It begins after each of them
// was asked for, so each sees all that was committed before. Other reads have
// connections of their own and do not hold these up.
func (c *sqliteConn) lookUp(jobs []*job[*sqliteLookUp]) {
	all := func() error {
		for _, j := range jobs {
			j.err = j.work.run(c)
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
}
