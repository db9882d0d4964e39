package seal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// KeySource reads the master keys that are configured, the newest first and at
// least one. Errors say what to do, and hold nothing of a key.
type KeySource func(context.Context) ([]*MasterKey, error)

// TextKeys is the source of the keys in text, in the form of
// [ParseMasterKeys].
func TextKeys(text string) KeySource {
	return func(context.Context) ([]*MasterKey, error) { return ParseMasterKeys([]byte(text)) }
}

// maxKeyText bounds the text of all keys, in bytes.
const maxKeyText = 4096

// restInterval is for how long after a reading the source is not read again for
// the key that it was read for, if that was not in it.
const restInterval = 5 * time.Second

// MasterKeys is the master keys that are configured. It reads them from their
// source when one is asked for that it does not know, one reading at a time and
// at most one for a key every restInterval. So a source that has changed, or that
// was out of reach, is noticed without a restart, a new master key at once, and
// who asks for a key that is known never waits. Safe for concurrent use.
type MasterKeys struct {
	source   KeySource
	patience time.Duration
	// closed ends readings; they are not any caller's, so that no caller who
	// leaves ends them for the others.
	closed context.Context
	close  context.CancelFunc

	mu      sync.Mutex
	keys    []*MasterKey    // as of the last reading that succeeded
	err     error           // of the last reading
	reading *reading        // under way
	resting map[string]bool // the ids that the source was just read for in vain
}

// reading is one reading of the source.
type reading struct {
	done chan struct{}   // closed when it has ended
	slow <-chan struct{} // closed when it takes long
	keys []*MasterKey
	err  error
}

// NewMasterKeys returns the keys in source, without reading it. Who asks for a
// key waits for a reading until it has taken the time of patience, and 0 is for
// as long as it takes. The caller ends it with Close.
func NewMasterKeys(source KeySource, patience time.Duration) *MasterKeys {
	k := &MasterKeys{source: source, patience: patience, resting: make(map[string]bool)}
	k.closed, k.close = context.WithCancel(context.Background())
	return k
}

// Close ends a reading that is under way.
func (k *MasterKeys) Close() {
	k.close()
	k.mu.Lock()
	r := k.reading
	k.mu.Unlock()
	if r == nil {
		return
	}
	select {
	case <-r.done:
	case <-time.After(2 * time.Second): // It is in the system's hands.
	}
}

// Key returns the key with the given id. The error says why it is not known and
// what to do.
func (k *MasterKeys) Key(ctx context.Context, id string) (*MasterKey, error) {
	k.mu.Lock()
	key := byID(k.keys, id)
	if key != nil || k.resting[id] {
		defer k.mu.Unlock()
		return k.found(key, id)
	}
	r := k.begin(id)
	k.mu.Unlock()
	select {
	case <-r.done:
	case <-r.slow:
		// That ends with the reading, too.
		select {
		case <-r.done:
		default:
			return nil, errors.New("reading the master key takes long: see what holds up its file or command")
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.found(byID(k.keys, id), id)
}

// found returns key, or why there is none with the given id. The caller holds
// mu.
func (k *MasterKeys) found(key *MasterKey, id string) (*MasterKey, error) {
	switch {
	case key != nil:
		return key, nil
	case k.err != nil:
		return nil, k.err
	}
	other := OtherMasterKeyError{wanted: id}
	for _, key := range k.keys {
		other.configured = append(other.configured, key.id)
	}
	return nil, other
}

// OtherMasterKeyError says that data is sealed under a master key that is not
// among those that are configured.
type OtherMasterKeyError struct {
	wanted     string
	configured []string // at least one
}

// Error names the keys by their ids, and says what to do.
func (e OtherMasterKeyError) Error() string {
	are := "key is "
	if len(e.configured) > 1 {
		are = "keys are "
	}
	return fmt.Sprintf("the data is sealed under master key %s, but the configured master %s%s: configure the right one", e.wanted, are, strings.Join(e.configured, " and "))
}

// Newest reads the source and returns its newest key. It waits for as long as
// that takes.
func (k *MasterKeys) Newest(ctx context.Context) (*MasterKey, error) {
	keys, err := k.All(ctx)
	if err != nil {
		return nil, err
	}
	return keys[0], nil
}

// All reads the source and returns its keys, the newest first and at least one,
// which the caller does not change. It waits for as long as that takes.
func (k *MasterKeys) All(ctx context.Context) ([]*MasterKey, error) {
	for {
		k.mu.Lock()
		under := k.reading
		r := k.begin("")
		k.mu.Unlock()
		select {
		case <-r.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		switch {
		case under != nil:
			// That one may have begun before a change that the caller knows of.
		case r.err != nil:
			return nil, r.err
		default:
			return r.keys, nil
		}
	}
}

// begin returns the reading that is under way, or begins one for the key with the
// given id, empty for none. The caller holds mu.
func (k *MasterKeys) begin(id string) *reading {
	if k.reading != nil {
		return k.reading
	}
	r := &reading{done: make(chan struct{})}
	stop := func() {}
	if k.patience > 0 {
		var slow context.Context
		slow, stop = context.WithTimeout(k.closed, k.patience)
		r.slow = slow.Done()
	}
	k.reading = r
	go func() {
		r.keys, r.err = k.source(k.closed)
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.err = r.err; r.err == nil {
			k.keys = r.keys
		}
		k.reading = nil
		if id != "" && byID(k.keys, id) == nil {
			k.resting[id] = true
			time.AfterFunc(restInterval, func() {
				k.mu.Lock()
				defer k.mu.Unlock()
				delete(k.resting, id)
			})
		}
		close(r.done)
		stop()
	}()
	return r
}
