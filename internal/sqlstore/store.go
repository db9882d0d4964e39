// Package sqlstore implements [grahak.Store] on two engines: [SQLite], which
// serves one process from one file, and [Postgres], which serves many.
//
// What both do alike is written once, in portable SQL with the placeholders
// $1…$n. What they do in their own ways, because it is on the path of every
// request or because one of them cannot do it, is in the files that begin with
// an engine's name.
package sqlstore

import (
	"context"
	"time"

	"grahak"
)

// Store is what both engines offer.
type Store interface {
	grahak.Store
	// Environment returns the environment that the store was made for.
	Environment() grahak.Environment
	// OrderLag returns how old the oldest event is that is not in its merchant's
	// chain, 0 if all are.
	OrderLag(ctx context.Context) (time.Duration, error)
	// WebhookLag returns how old the oldest event is that an endpoint waits for, 0 if
	// none does. Events that were given up and endpoints that are disabled do not
	// count.
	WebhookLag(ctx context.Context) (time.Duration, error)
	// QueueLen returns how many writes wait, and QueueCap how many may before more
	// are refused.
	QueueLen() int
	QueueCap() int
	// Close finishes what is under way. Calls after it fail.
	Close() error
}

// engine is what [portable] is written on.
type engine interface {
	// read runs fn with a connection for reads, of which there are few. fn must
	// not keep it. It may run again, so it must not keep state between runs.
	read(ctx context.Context, fn func(conn) error) error
	// vitalRead is read for the short reads that requests depend on: lists and
	// searches do not hold them up.
	vitalRead(ctx context.Context, fn func(conn) error) error
	// longRead is read for what may take minutes.
	longRead(ctx context.Context, fn func(conn) error) error
	// write runs fn in a transaction and returns when that is on disk. An
	// *[grahak.Error] of fn means that it decided to write nothing; then it must
	// have written nothing. After any other error the transaction is undone, and
	// fn may run again, so it must not keep state between runs.
	write(ctx context.Context, fn func(tx) error) error

	// total returns how many customers the merchant has.
	total(c conn, m grahak.MerchantID) (int64, error)
	// search returns at most limit customers under a value of the look-up index,
	// with ids from one up to but not another, in descending order. c reads as of
	// one moment.
	search(c conn, m grahak.MerchantID, value grahak.ShortIndex, from, before string, limit int) ([]grahak.CustomerRecord, error)
	// eventsAbout returns the query for at most $4 events with the subject $5 and a
	// position between $2 and $3, which stands on an index by subject, in an order.
	eventsAbout(order string) string
	// ordered reports whether all events of the merchant are in its chain.
	ordered(tx conn, m grahak.MerchantID) (bool, error)
}

// portable is the part of a store that both engines share.
type portable struct{ engine }

// AccessVersion implements [grahak.Store].
func (s *portable) AccessVersion(ctx context.Context) (version int64, err error) {
	err = s.vitalRead(ctx, func(c conn) error {
		return c.queryRow(`SELECT access_version FROM instance WHERE id = 1`).Scan(&version)
	})
	return version, err
}

// Ping implements [grahak.Store].
func (s *portable) Ping(ctx context.Context) error {
	_, err := s.AccessVersion(ctx)
	return err
}
