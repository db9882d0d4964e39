package dashboard_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"grahak"
)

// events returns the types of acme's events about a customer, with who made them.
func (s *site) events(tb testing.TB, id grahak.CustomerID) (list []string) {
	tb.Helper()
	events, err := s.store.EventsOf(tb.Context(), acme, string(id))
	if err != nil {
		tb.Fatal(err)
	}
	for _, e := range events {
		list = append(list, string(e.Type)+" by "+e.Actor)
	}
	return list
}

// person is what must not be in a page for those who have not asked to see it.
var person = []string{"9988776655", "customer@example.com", "Asha", "asha", "Rao", "gold", "customer-1"}

// wantNobody fails the test if a page tells who somebody is.
func (r *reply) wantNobody(tb testing.TB) {
	tb.Helper()
	for _, personal := range person {
		if strings.Contains(r.body, personal) {
			tb.Errorf("%s tells of %q", r.request, personal)
		}
	}
}

// A viewer sees a customer masked wherever there is one, and finds the customer by
// whatever is at hand, of which no URL and no log has a word.
func TestMaskedPages(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	b := s.MustEnter(t, "vera", grahak.RoleViewer)
	wantEqual(t, "the empty list", "No customers yet", b.Get(t, "/dashboard/m/acme/customers").want(t, http.StatusOK).text(".empty h2"))
	id := s.MustCustomer(t)
	_, err := s.service.UpdateCustomer(t.Context(), console(acme), string(id), grahak.CustomerInput{
		Metadata: grahak.MetadataInput{Pairs: []grahak.MetadataPair{{Key: "plan", Value: "gold"}}},
	}, grahak.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	here := "/dashboard/m/acme/customers/" + string(id)
	list := b.Get(t, "/dashboard/m/acme/customers").want(t, http.StatusOK)
	list.wantNobody(t)
	wantEqual(t, "the row", []string{string(id), "cu•••-1", "A••• R•••", "c•••@e•••.com", "+91 •••655"}, list.all("table.customers td")[:5])
	wantEqual(t, "the row's link", here, list.attr("table.customers a", "href"))
	wantEqual(t, "what a viewer cannot do", 0, len(list.all("a.primary")))

	page := b.Get(t, here).want(t, http.StatusOK)
	page.wantNobody(t)
	wantEqual(t, "the metadata", []string{"•••"}, page.all("section[aria-labelledby=metadata] dd"))
	wantEqual(t, "what a viewer cannot do with a customer", 0, len(page.all(".head form, .head a")))
	wantEqual(t, "the timeline", []string{"Customer changed: metadata", "Customer created"}, page.all("table.timeline td[data-label=What]"))

	for _, text := range []string{string(id), "customer-1", "CUSTOMER@example.com", "+91 99887 76655", "9988776655"} {
		b.Post(t, "/dashboard/m/acme/customers/search", "q", text).redirect(t, here)
	}
	s.MustCustomer(t)
	both := b.Post(t, "/dashboard/m/acme/customers/search", "q", "customer@example.com").want(t, http.StatusOK)
	wantEqual(t, "how many are found", 2, len(both.all("table.customers tbody tr")))
	none := b.Post(t, "/dashboard/m/acme/customers/search", "q", `<script>"&nobody@example.com`).want(t, http.StatusOK)
	wantEqual(t, "what was looked for", `<script>"&nobody@example.com`, none.text(".empty bdi"))
	b.Post(t, "/dashboard/m/acme/customers/search", "q", " ").redirect(t, "/dashboard/m/acme/customers")
	for _, personal := range person {
		if strings.Contains(s.log.String(), personal) {
			t.Errorf("the log tells of %q", personal)
		}
	}
}

// Lists are read page by page, and day by day.
func TestCustomerList(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	b := s.MustEnter(t, "vera", grahak.RoleViewer)
	var want []string
	for range 60 {
		want = append(want, string(s.MustCustomer(t)))
	}
	var got []string
	path := "/dashboard/m/acme/customers"
	for range 4 {
		page := b.Get(t, path).want(t, http.StatusOK)
		got = append(got, page.all("table.customers td[data-label=Customer]")...)
		wantEqual(t, "the total", "Customers 60", page.text("h1"))
		if path = page.attr(".pager a[rel=next]", "href"); path == "" {
			break
		}
	}
	// Ids that were made at once have no order.
	slices.Sort(want)
	slices.Sort(got)
	wantEqual(t, "all pages", want, got)
	today := s.clock.Now().UTC().Format("2006-01-02")
	yesterday := s.clock.Now().UTC().AddDate(0, 0, -1).Format("2006-01-02")
	for query, want := range map[string]int{
		"from=" + today:            25,
		"until=" + today:           25,
		"until=" + yesterday:       0,
		"from=2000-01-01&until=":   25,
		"from=&until=2000-01-01":   0,
		"from=" + today + "&x=%zz": 25,
	} {
		page := b.Get(t, "/dashboard/m/acme/customers?"+query).want(t, http.StatusOK)
		wantEqual(t, query, want, len(page.all("table.customers tbody tr")))
	}
	b.Get(t, "/dashboard/m/acme/customers?from=17.3.2026").want(t, http.StatusUnprocessableEntity)
	b.Get(t, "/dashboard/m/acme/customers?after=forged").want(t, http.StatusUnprocessableEntity)
}

// An admin reveals, edits and erases a customer, and each of it is on record.
func TestCustomerStory(t *testing.T) {
	t.Parallel()
	s := MustServe(t)
	b := s.MustEnter(t, "anil", grahak.RoleAdmin)
	here := "/dashboard/m/acme/customers"
	refused := b.Post(t, here, "reference", " ", "mobile_number", "12 34", "email_address", "nobody", "metadata_key", "", "metadata_value", "x").want(t, http.StatusUnprocessableEntity)
	wantEqual(t, "what is wrong", 4, len(refused.all(".error")))
	wantEqual(t, "what was entered", "12 34", refused.attr("[name=mobile_number]", "value"))

	to := b.Post(t, here, "reference", "user-7", "mobile_number", "9988776655", "mobile_country_code", "+44",
		"email_address", "asha@example.com", "first_name", `<b>"Asha"</b>`, "last_name", "", "metadata_key", "plan", "metadata_value", "gold").
		want(t, http.StatusSeeOther).header.Get("Location")
	id := grahak.CustomerID(strings.TrimPrefix(to, here+"/"))
	taken := b.Post(t, here, "reference", "user-7", "mobile_number", "1").want(t, http.StatusUnprocessableEntity)
	wantEqual(t, "who has the reference", to, taken.attr("p.error a", "href"))

	masked := b.Get(t, to).want(t, http.StatusOK)
	if strings.Contains(masked.body, "Asha") || strings.Contains(masked.body, "gold") {
		t.Error("the page shows more than it should")
	}
	clear := b.Post(t, masked.attr(".head form", "action")).want(t, http.StatusOK)
	wantEqual(t, "the person", []string{"user-7", "+44 9988776655", "asha@example.com", `<b>"Asha"</b>`}, clear.all("section[aria-labelledby=who] bdi"))
	wantEqual(t, "the metadata", []string{"gold"}, clear.all("section[aria-labelledby=metadata] dd bdi"))
	if !strings.Contains(clear.text(".flash.warn"), "anil has looked") || clear.header.Get("Cache-Control") != "no-store" {
		t.Errorf("the page says %q, and is kept as %q", clear.text(".flash.warn"), clear.header.Get("Cache-Control"))
	}
	wantEqual(t, "the latest that happened", "Customer shown in clear", clear.text("table.timeline td[data-label=What]"))

	form := b.Post(t, to+"/edit").want(t, http.StatusOK)
	edit := []string{
		"revision", form.attr("[name=revision]", "value"), "mobile_country_code", form.attr("[name=mobile_country_code]", "value"),
		"mobile_number", form.attr("[name=mobile_number]", "value"), "email_address", "usha@example.com", "first_name", "Usha", "last_name", "",
		"metadata_key", form.attr("[name=metadata_key]", "value"), "metadata_value", "", "metadata_key", "city", "metadata_value", "Pune",
	}
	b.Post(t, to+"/save", edit...).redirect(t, to)
	got, err := s.service.Customer(t.Context(), console(acme), string(id), false)
	if err != nil {
		t.Fatal(err)
	}
	metadata := make(map[string]string)
	for key, value := range got.Customer.Metadata.All() {
		metadata[key] = value
	}
	wantEqual(t, "the metadata after", map[string]string{"city": "Pune"}, metadata)
	wantEqual(t, "the person after", []string{"44", "9988776655", "usha@example.com", "Usha", ""},
		[]string{got.Customer.MobileCountryCode, got.Customer.MobileNumber, got.Customer.Email, got.Customer.FirstName, got.Customer.LastName})

	// The same form again is of a customer who has changed since.
	again := b.Post(t, to+"/save", append(slices.Clone(edit), "x", "y")...).want(t, http.StatusUnprocessableEntity)
	if !strings.Contains(again.text(".flash.trouble"), "changed this customer meanwhile") {
		t.Errorf("the page says %q", again.text("main"))
	}
	wantEqual(t, "the newer revision", "2", again.attr("[name=revision]", "value"))
	bad := b.Post(t, to+"/save", "revision", "2", "mobile_number", "x", "first_name", "Ravi").want(t, http.StatusUnprocessableEntity)
	wantEqual(t, "what was entered", "Ravi", bad.attr("[name=first_name]", "value"))
	b.Post(t, to+"/save", "revision", "x").want(t, http.StatusBadRequest)

	ask := b.Get(t, to+"/erase").want(t, http.StatusOK)
	revision := ask.attr("[name=revision]", "value")
	wrong := b.Post(t, to+"/erase", "revision", revision, "confirm", "yes").want(t, http.StatusUnprocessableEntity)
	if wrong.text(".error") == "" {
		t.Error("the page does not say why nothing was erased")
	}
	b.Post(t, to+"/erase", "revision", "1", "confirm", string(id)).redirect(t, to)
	if !strings.Contains(b.Get(t, to).want(t, http.StatusOK).text(".flash.trouble"), "nothing was erased") {
		t.Error("an erase of what was not looked at is not told")
	}
	b.Post(t, to+"/erase", "revision", revision, "confirm", "user-7").redirect(t, to)
	erased := b.Get(t, to).want(t, http.StatusOK)
	wantEqual(t, "the page of nobody", "Erased customer", erased.text("h1"))
	wantEqual(t, "what can be done with nobody", 0, len(erased.all(".head form, .head a")))
	b.Post(t, to+"/reveal").want(t, http.StatusNotFound)
	b.Post(t, here+"/search", "q", string(id)).redirect(t, to)

	wantEqual(t, "what is on record", []string{
		"customer.created by operator:anil", "customer.revealed by operator:anil", "customer.revealed by operator:anil",
		"customer.updated by operator:anil", "customer.revealed by operator:anil", "customer.erased by operator:anil",
	}, s.events(t, id))
}
