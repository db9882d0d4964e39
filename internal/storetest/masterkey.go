package storetest

import (
	"fmt"
	"slices"

	"grahak"
)

var masterKeyTests = []test{
	{"named first", masterKeyNamedFirst},
	{"named late", masterKeyNamedLate},
	{"named by many", masterKeyNamedByMany},
}

// wantMasterKey calls MasterKeyID with id and fails the test unless it returns
// want and, asked again, keeps to it.
func (r *rig) wantMasterKey(what, id, want string) {
	r.Helper()
	for _, given := range []string{id, ""} {
		got, err := r.store.MasterKeyID(r.Context(), given)
		r.must(err)
		r.wantEqual(fmt.Sprintf("%s: the master key after %q", what, given), got, want)
	}
}

// masterKeyNamedFirst names a key before there is a merchant, as a server does.
func masterKeyNamedFirst(r *rig) {
	r.wantMasterKey("a new store", "", "")
	r.wantMasterKey("the first name", "mk_1", "mk_1")
	r.wantMasterKey("the same name", "mk_1", "mk_1")
	// Nothing is under the first key yet, so it may be lost without harm.
	r.wantMasterKey("another name while there is no merchant", "mk_2", "mk_2")
	r.wantMasterKey("the first name again", "mk_1", "mk_1")
	r.wantMasterKey("the other name again", "mk_2", "mk_2")

	_, keys := r.MustMerchant(own)
	r.wantMasterKey("with a merchant", "", "mk_2")
	r.wantMasterKey("another name with a merchant", "mk_1", "mk_2")
	r.wantMasterKey("a new name with a merchant", "mk_3", "mk_2")
	r.wantMasterKey("the same name with a merchant", "mk_2", "mk_2")
	// A disabled merchant's customers are still under the key.
	r.must(r.store.DisableMerchant(r.Context(), own, r.now(), r.event(grahak.EventMerchantDisabled, "", 0)))
	r.wantMasterKey("another name with a disabled merchant", "mk_3", "mk_2")
	got, err := r.store.Keyset(r.Context(), own)
	r.must(err)
	r.wantEqual("the merchant's own keys", got, keys)
}

// masterKeyNamedLate names a key when there is a merchant: the first name is
// taken, and then kept.
func masterKeyNamedLate(r *rig) {
	r.MustMerchant(own)
	r.wantMasterKey("no name", "", "")
	r.wantMasterKey("the first name", "mk_1", "mk_1")
	r.wantMasterKey("another name", "mk_2", "mk_1")
}

// masterKeyNamedByMany has many give the first name at once. If it can no longer
// be replaced, all are told the same one.
func masterKeyNamedByMany(r *rig) {
	told := make([]string, parallel)
	name := func(id func(i int) string) {
		r.wantOutcomes(together(parallel, func(i int) (err error) {
			told[i], err = r.store.MasterKeyID(r.Context(), id(i))
			return err
		}), map[grahak.Code]int{"": parallel})
	}
	nobodyDiffers := func(what string) {
		r.Helper()
		if differ := slices.Compact(slices.Sorted(slices.Values(told))); len(differ) != 1 {
			r.Errorf("%s were told of the keys %q", what, differ)
		}
	}
	r.MustMerchant(own)
	name(func(i int) string { return fmt.Sprintf("mk_%d", i) })
	nobodyDiffers("callers with keys of their own")
	r.wantMasterKey("one more name", "mk_late", told[0])
	if told[0] == "" || told[0] == "mk_late" {
		r.Errorf("the name is %q, which nobody of them gave", told[0])
	}
}
