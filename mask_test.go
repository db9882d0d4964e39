package grahak_test

import (
	"testing"

	"grahak"
)

func TestMasks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		in   grahak.Profile
		want grahak.MaskedCustomer
	}{
		{"nothing but what must be", grahak.Profile{Reference: "1", MobileCountryCode: "91", MobileNumber: "2"}, grahak.MaskedCustomer{
			Reference: "•••", MobileCountryCode: "91", MobileNumber: "•••",
		}},
		{"as most are", grahak.Profile{
			Reference: "user-1234567", MobileCountryCode: "91", MobileNumber: "9988776655",
			Email: "asha.rao@example.com", FirstName: "Asha", LastName: "Rao",
		}, grahak.MaskedCustomer{
			Reference: "us•••67", MobileCountryCode: "91", MobileNumber: "•••655",
			Email: "a•••@e•••.com", FirstName: "A•••", LastName: "R•••",
		}},
		{"a reference that is an address, names of other scripts", grahak.Profile{
			Reference: "asha.rao@mail.example.co.in", MobileCountryCode: "1", MobileNumber: "99887766",
			Email: "ar@x.in", FirstName: "आशा", LastName: "李",
		}, grahak.MaskedCustomer{
			Reference: "a•••@m•••.in", MobileCountryCode: "1", MobileNumber: "•••766",
			Email: "•••@•••.in", FirstName: "आ•••", LastName: "•••",
		}},
		{"a reference that is a number, short names", grahak.Profile{
			Reference: "+919988776655", MobileNumber: "9988776", Email: "asha@localhost", FirstName: "Om", LastName: "Lee",
		}, grahak.MaskedCustomer{
			Reference: "•••655", MobileNumber: "•••", Email: "a•••@l•••", FirstName: "•••", LastName: "L•••",
		}},
		{"a reference too short to show of", grahak.Profile{Reference: "12345678"}, grahak.MaskedCustomer{Reference: "•••678"}},
		{"eight characters", grahak.Profile{Reference: "abcdefgh"}, grahak.MaskedCustomer{Reference: "•••"}},
		{"nine characters", grahak.Profile{Reference: "abcdefghi"}, grahak.MaskedCustomer{Reference: "ab•••hi"}},
	} {
		diff(t, c.name, c.want, grahak.Customer{Profile: c.in}.Masked())
	}
}

// What viewers see of a customer with everything has none of the values.
func TestMaskedMetadata(t *testing.T) {
	t.Parallel()
	r := MustMerchantRig(t)
	in := person("ref-1")
	in.Metadata.Pairs = []grahak.MetadataPair{{Key: "plan", Value: "gold"}, {Key: "city", Value: "Pune"}}
	made := r.MustCreate(t, acme, in)
	want := made.Masked()
	diff(t, "the keys", []string{"city", "plan"}, want.MetadataKeys)
	viewer := caller(acme, grahak.Scope(grahak.RoleViewer))
	got, err := r.MaskedCustomer(t.Context(), viewer, made.ID)
	wantCode(t, err, "")
	diff(t, "the customer", want, got)
	page, err := r.MaskedCustomers(t.Context(), viewer, grahak.ListQuery{Limit: 10})
	wantCode(t, err, "")
	diff(t, "the list", grahak.MaskedPage{Customers: []grahak.MaskedCustomer{want}, Total: 1}, page)
	for _, id := range []grahak.CustomerID{"ref-1", "cst_unknown", "", "\x00"} {
		_, err := r.MaskedCustomer(t.Context(), viewer, id)
		wantCode(t, err, grahak.CodeCustomerNotFound)
	}
	_, err = r.MaskedCustomer(t.Context(), caller(rival, grahak.Scope(grahak.RoleOwner)), made.ID)
	wantCode(t, err, grahak.CodeCustomerNotFound)
	_, err = r.Customers(t.Context(), viewer, grahak.ListQuery{Limit: 10})
	wantCode(t, err, grahak.CodeInsufficientScope)
}
