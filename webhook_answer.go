package grahak

import (
	"sync"
	"time"
)

// MaxWebhookAnswer bounds how much of a receiver's answer is shown, in bytes.
const MaxWebhookAnswer = 1024

// keptAnswers is how many answers a process keeps.
const keptAnswers = 512

// webhookAnswers is the answers of receivers to the newest attempts of this process.
// They may hold personal data, which could not be erased with its customer, so they
// are in memory only, and the newest take the place of the oldest. Safe for concurrent
// use.
type webhookAnswers struct {
	mu   sync.Mutex
	kept []webhookAnswer
	next int
}

// webhookAnswer is what came of one attempt.
type webhookAnswer struct {
	webhook webhookKey
	event   EventID
	at      time.Time // when the attempt began
	text    string
}

// keep keeps an answer unless it is empty.
func (w *webhookAnswers) keep(a webhookAnswer) {
	if a.text == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.kept) < keptAnswers {
		w.kept = append(w.kept, a)
		return
	}
	w.kept[w.next] = a
	w.next = (w.next + 1) % keptAnswers
}

// fill sets the answers of attempts at an endpoint that are kept.
func (w *webhookAnswers) fill(webhook webhookKey, attempts []WebhookAttempt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range attempts {
		for _, a := range w.kept {
			if a.webhook == webhook && a.event == attempts[i].EventID && a.at.Equal(attempts[i].At) {
				attempts[i].Answer = a.text
			}
		}
	}
}
