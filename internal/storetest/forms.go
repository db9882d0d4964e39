package storetest

import (
	"time"

	"grahak"
)

var formTests = []test{{"claim", formClaim}}

// A form is claimed once, whoever else claims it at the same time, and is no code for
// anything else.
func formClaim(r *rig) {
	r.MustMerchant(grahak.OperatorsMerchant)
	r.must(r.store.CreateOperator(r.Context(), "asha", r.now(), grahak.OperatorCode{}, r.event(grahak.EventOperatorCreated, "asha", 0), grahak.Grant{}, grahak.Event{}))
	const most = 2
	events := len(r.MustEvents(grahak.OperatorsMerchant))
	form := grahak.OperatorCode{Hash: grahak.SecretHash{1}, ExpiresAt: r.now().Add(time.Hour)}
	claimed := make([]bool, parallel)
	errs := r.together(parallel, func(r *rig, i int) (err error) {
		claimed[i], err = r.store.ClaimForm(r.Context(), "asha", form, most)
		return err
	})
	r.wantOutcomes(errs, map[grahak.Code]int{"": parallel})
	first := 0
	for _, c := range claimed {
		if c {
			first++
		}
	}
	r.wantEqual("claims that were the first", first, 1)
	form.Hash[0] = 2
	other, err := r.store.ClaimForm(r.Context(), "asha", form, most)
	r.must(err)
	r.wantEqual("another form", other, true)
	form.Hash[0] = most + 1
	_, err = r.store.ClaimForm(r.Context(), "asha", form, most)
	r.wantCode("one more than is remembered", err, grahak.CodeTooManyRequests)
	form.Hash[0] = 2
	_, err = r.store.ClaimForm(r.Context(), "nobody", form, most)
	r.wantCode("nobody's", err, grahak.CodeOperatorNotFound)
	for _, kind := range []grahak.CodeKind{grahak.CodeKindSetup, grahak.CodeKindLink, grahak.CodeKindRecovery} {
		_, err := r.store.OperatorCode(r.Context(), kind, form.Hash, r.now())
		r.wantCode("as a code for "+string(kind), err, grahak.CodeLoginRefused)
	}
	r.wantEqual("events", len(r.MustEvents(grahak.OperatorsMerchant)), events)
}
