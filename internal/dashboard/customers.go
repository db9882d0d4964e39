package dashboard

import (
	"cmp"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"grahak"
)

var customerRoutes = []route{
	get(atMerchant+"customers", member, customers),
	post(atMerchant+"customers", member, createCustomer),
	post(atMerchant+"customers/search", member, searchCustomers),
	get(atMerchant+"customers/new", member, newCustomer),
	get(atMerchant+"customers/{customer}", member, customer),
	post(atMerchant+"customers/{customer}/reveal", member, revealCustomer),
	post(atMerchant+"customers/{customer}/edit", member, editCustomer),
	post(atMerchant+"customers/{customer}/save", member, saveCustomer),
	get(atMerchant+"customers/{customer}/erase", member, showEraseCustomer),
	post(atMerchant+"customers/{customer}/erase", member, eraseCustomer),
}

const (
	// customersPage is how many customers a page lists.
	customersPage = 25
	// timelineLength is how much of what happened to a customer a page tells.
	timelineLength = 30
)

// customersView is a page of a merchant's customers.
type customersView struct {
	place
	Rows  []customerRow
	Total int64
	// From and Until are the days between which customers were made.
	From, Until formField
	Filtered    bool
	Pager       pager
	Empty       empty
}

// customerRow is a customer in a list.
type customerRow struct {
	grahak.MaskedCustomer
	URL string
}

// Name is what is shown of the person's name.
func (r customerRow) Name() string { return strings.TrimSpace(r.FirstName + " " + r.LastName) }

// foundView is what a search came upon.
type foundView struct {
	place
	Text string
	Rows []customerRow
	More bool
}

// customerView is a customer, with the person's data masked or in clear.
type customerView struct {
	place
	ID        grahak.CustomerID
	URL       string
	Fields    []shownField
	Metadata  []shownField
	Revision  int64
	CreatedAt time.Time
	UpdatedAt time.Time
	// Erased is when the customer was erased; then there is nothing of the person.
	Erased time.Time
	// Revealed is as whom the person's data was looked at, empty if they are masked.
	Revealed string
	Timeline []happening
	More     bool
	Tokens   []tokenRow
}

// CopyID is the button that copies the id.
func (v customerView) CopyID() copyable { return copyable{"the id", string(v.ID)} }

// shownField is something known of a customer.
type shownField struct {
	Label, Value string
	// Copy has a text if the value is in clear.
	Copy copyable
}

// tokenRow is a client auth token.
type tokenRow struct {
	grahak.TokenTimes
	Valid bool
}

// happening is a line of a timeline.
type happening struct {
	grahak.TimelineEntry
	// Event is nil for a request only.
	Event *eventRow
	// RequestURL is empty without a request in the log.
	RequestURL string
	State      badge
}

func customerPath(base string, id grahak.CustomerID) string {
	return base + "/customers/" + url.PathEscape(string(id))
}

func (p *page) customerRows(list []grahak.MaskedCustomer) []customerRow {
	rows := make([]customerRow, len(list))
	for i, c := range list {
		rows[i] = customerRow{c, customerPath(p.base(), c.ID)}
	}
	return rows
}

func customers(p *page) error {
	view := customersView{
		place: p.place(),
		From:  formField{Name: "from", Label: "Created from", Type: "date", Value: p.query("from")},
		Until: formField{Name: "until", Label: "until", Type: "date", Value: p.query("until")},
	}
	q := grahak.ListQuery{Limit: customersPage, After: p.query("after")}
	q.Filter.CreatedFrom = dayInput(&view.From, 0)
	q.Filter.CreatedBefore = dayInput(&view.Until, 1)
	if view.From.Error != "" || view.Until.Error != "" {
		return p.refuse("customers", "Customers", view)
	}
	list, err := p.edge.service.MaskedCustomers(p.ctx(), p.Caller, q)
	if err != nil {
		return err
	}
	view.Rows, view.Total = p.customerRows(list.Customers), list.Total
	view.Filtered = view.From.Value != "" || view.Until.Value != ""
	here := p.base() + "/customers"
	params := url.Values{}
	for _, f := range []formField{view.From, view.Until} {
		if f.Value != "" {
			params.Set(f.Name, f.Value)
		}
	}
	if q.After != "" {
		view.Pager.First = withQuery(here, params)
	}
	if list.Next != "" {
		params.Set("after", list.Next)
		view.Pager.Next = withQuery(here, params)
	}
	switch {
	case list.Total == 0:
		view.Empty = empty{Title: "No customers yet", Text: "They come by the API, by an import on the command line, or one by one from here."}
		if view.Admin() {
			view.Empty.Action, view.Empty.URL = "Add a customer", here+"/new"
		}
	case view.Filtered:
		view.Empty = empty{Title: "No customers in these days", Text: "Choose other days, or search for somebody at the top.", Action: "All customers", URL: here}
	default:
		view.Empty = empty{Title: "No more customers", Text: "This is behind the last one.", Action: "The newest", URL: here}
	}
	return p.render("customers", "Customers", view)
}

// dayInput returns the start of a day that was asked for, and so many days after it, or
// notes in the field that it is none.
func dayInput(f *formField, after int) grahak.Input {
	if f.Value == "" {
		return grahak.Input{}
	}
	t, err := time.Parse(dayForm, f.Value)
	if err != nil {
		f.Error = "Write a day such as 2026-03-17."
		return grahak.Input{}
	}
	return grahak.Input{Value: t.AddDate(0, 0, after).Format(time.RFC3339), Given: true}
}

// withQuery returns the URL of a path with parameters.
func withQuery(path string, params url.Values) string {
	if len(params) == 0 {
		return path
	}
	return path + "?" + params.Encode()
}

// searchCustomers is a POST, so that what is looked for is in no URL.
func searchCustomers(p *page) error {
	text := p.field("q")
	if text == "" {
		return p.redirect(p.base()+"/customers", flash{})
	}
	found, err := p.edge.service.FindCustomer(p.ctx(), p.Caller, text)
	if err != nil {
		return err
	}
	switch {
	case found.Kind == grahak.FoundRequest:
		return p.redirect(p.base()+"/requests/"+url.PathEscape(found.RequestID), flash{})
	case found.Kind == grahak.FoundErased:
		return p.redirect(customerPath(p.base(), found.ID), flash{})
	case len(found.Customers) == 1 && !found.More:
		return p.redirect(customerPath(p.base(), found.Customers[0].ID), flash{Text: "Found by " + string(found.Kind) + "."})
	}
	return p.render("found", "Search", foundView{place: p.place(), Text: text, Rows: p.customerRows(found.Customers), More: found.More})
}

func customer(p *page) error {
	id := grahak.CustomerID(p.value("customer"))
	view, err := p.customerView(id)
	if err != nil {
		return err
	}
	c, err := p.edge.service.MaskedCustomer(p.ctx(), p.Caller, id)
	switch {
	case grahak.CodeOf(err) == grahak.CodeCustomerNotFound && !view.Erased.IsZero():
		return p.render("customer", "Erased customer", view)
	case err != nil:
		return err
	}
	view.Erased = time.Time{}
	view.Revision, view.CreatedAt, view.UpdatedAt = c.Revision, c.CreatedAt, c.UpdatedAt
	view.Fields = shownFields(c.Reference, c.MobileCountryCode, c.MobileNumber, c.Email, c.FirstName, c.LastName)
	for _, key := range c.MetadataKeys {
		view.Metadata = append(view.Metadata, shownField{Label: key, Value: "•••"})
	}
	return p.render("customer", "Customer", view)
}

// shownFields returns what is known of a person, masked or in clear.
func shownFields(reference, countryCode, mobile, email, first, last string) []shownField {
	return []shownField{
		{Label: "Reference", Value: reference},
		{Label: "Mobile number", Value: "+" + countryCode + " " + mobile},
		{Label: "E-mail address", Value: email},
		{Label: "First name", Value: first},
		{Label: "Last name", Value: last},
	}
}

// revealCustomer answers with the page itself: the data of a person is not kept for a
// page after it.
func revealCustomer(p *page) error {
	c, err := p.edge.service.RevealCustomer(p.ctx(), p.Caller, grahak.CustomerID(p.value("customer")))
	if err != nil {
		return err
	}
	// It comes after the look, so that the look is in it.
	view, err := p.customerView(c.ID)
	if err != nil {
		return err
	}
	view.Erased = time.Time{}
	view.Revealed = string(p.Visitor.Account.Name)
	view.Revision, view.CreatedAt, view.UpdatedAt = c.Revision, c.CreatedAt, c.UpdatedAt
	view.Fields = shownFields(c.Reference, c.MobileCountryCode, c.MobileNumber, c.Email, c.FirstName, c.LastName)
	for i := range view.Fields {
		f := &view.Fields[i]
		f.Copy = copyable{f.Label, f.Value}
	}
	for key, value := range c.Metadata.All() {
		view.Metadata = append(view.Metadata, shownField{Label: key, Value: value, Copy: copyable{key, value}})
	}
	return p.render("customer", "Customer", view)
}

// customerView returns what the page of a customer says without the person's data.
func (p *page) customerView(id grahak.CustomerID) (customerView, error) {
	t, err := p.edge.service.CustomerTimeline(p.ctx(), p.Caller, id, timelineLength)
	if err != nil {
		return customerView{}, err
	}
	view := customerView{place: p.place(), ID: id, URL: customerPath(p.base(), id), Erased: t.Erased, More: t.More}
	for _, entry := range t.Entries {
		h := happening{TimelineEntry: entry}
		if entry.Event != nil {
			row := newEventRow(view.Base, *entry.Event)
			h.Event = &row
		}
		if r := entry.Request; r != nil {
			h.RequestURL = view.Base + "/requests/" + url.PathEscape(r.RequestID)
			h.State = statusBadge(r.Status)
		}
		view.Timeline = append(view.Timeline, h)
	}
	now := p.edge.cfg.Clock.Now()
	for _, token := range t.Tokens {
		view.Tokens = append(view.Tokens, tokenRow{token, token.ExpiresAt.After(now)})
	}
	return view, nil
}

// customerForm is the form that makes or changes a customer.
type customerForm struct {
	place
	// ID is empty for one who is to be made, and Revision what the form was made from.
	ID       grahak.CustomerID
	Revision int64
	// Action is where the form goes, Back where the page behind it is.
	Action, Back string
	Fields       []formField
	Metadata     []metadataRow
	// MetadataError says what is wrong with that.
	MetadataError string
	// Problem is what is wrong with the whole, and Duplicate the page of who has the
	// reference.
	Problem, Duplicate string
}

// metadataRow is a key of metadata and its value in a form.
type metadataRow struct {
	Number int
	Key    string
	Value  string
	// Fixed is set for a key that the customer has: an empty value takes it away.
	Fixed bool
}

// moreMetadata is how many keys can be added at once.
const moreMetadata = 3

// formInputs are the fields of the form in the order of their definition, with what may
// be said of a value that is refused.
var formInputs = []struct {
	field formField
	is    grahak.Field
	wrong string
	value func(*grahak.Profile) string
	input func(*grahak.CustomerInput) *grahak.Input
}{
	{
		formField{Name: "reference", Label: "Reference", Required: true, MaxLength: grahak.MaxReference, Hint: "Your own id of the customer. It is unique and does not change."},
		grahak.FieldReference, "Enter 1 to 128 characters.",
		func(p *grahak.Profile) string { return p.Reference }, func(in *grahak.CustomerInput) *grahak.Input { return &in.Reference },
	},
	{
		formField{Name: "mobile_country_code", Label: "Country code", InputMode: "numeric", MaxLength: 1 + grahak.MaxCountryCode, Hint: "Of the mobile number, such as 91. Empty is the server's own."},
		grahak.FieldMobileCountryCode, "Enter 1 to 4 digits.",
		func(p *grahak.Profile) string { return p.MobileCountryCode }, func(in *grahak.CustomerInput) *grahak.Input { return &in.MobileCountryCode },
	},
	{
		formField{Name: "mobile_number", Label: "Mobile number", Required: true, InputMode: "numeric", MaxLength: grahak.MaxMobileNumber},
		grahak.FieldMobileNumber, "Enter 1 to 16 digits, without spaces and without the country code.",
		func(p *grahak.Profile) string { return p.MobileNumber }, func(in *grahak.CustomerInput) *grahak.Input { return &in.MobileNumber },
	},
	{
		formField{Name: "email_address", Label: "E-mail address", InputMode: "email", MaxLength: grahak.MaxEmail},
		grahak.FieldEmail, "This is not an e-mail address.",
		func(p *grahak.Profile) string { return p.Email }, func(in *grahak.CustomerInput) *grahak.Input { return &in.Email },
	},
	{
		formField{Name: "first_name", Label: "First name", MaxLength: grahak.MaxName},
		grahak.FieldFirstName, "Enter at most 64 characters.",
		func(p *grahak.Profile) string { return p.FirstName }, func(in *grahak.CustomerInput) *grahak.Input { return &in.FirstName },
	},
	{
		formField{Name: "last_name", Label: "Last name", MaxLength: grahak.MaxName},
		grahak.FieldLastName, "Enter at most 64 characters.",
		func(p *grahak.Profile) string { return p.LastName }, func(in *grahak.CustomerInput) *grahak.Input { return &in.LastName },
	},
}

// customerForm returns a form with the values of a customer, of a new one if c is nil.
func (p *page) customerForm(c *grahak.Customer) customerForm {
	here := p.base() + "/customers"
	form := customerForm{place: p.place(), Action: here, Back: here}
	var profile grahak.Profile
	if c != nil {
		profile, form.ID, form.Revision = c.Profile, c.ID, c.Revision
		form.Back = customerPath(form.Base, c.ID)
		form.Action = form.Back + "/save"
	}
	for _, in := range formInputs {
		if c != nil && in.is == grahak.FieldReference {
			continue
		}
		in.field.Value, in.field.Autocomplete = in.value(&profile), "off"
		form.Fields = append(form.Fields, in.field)
	}
	for key, value := range profile.Metadata.All() {
		form.Metadata = append(form.Metadata, metadataRow{Key: key, Value: value, Fixed: true})
	}
	form.addMetadata()
	return form
}

// addMetadata adds empty rows for more keys.
func (f *customerForm) addMetadata() {
	for range moreMetadata {
		f.Metadata = append(f.Metadata, metadataRow{})
	}
	for i := range f.Metadata {
		f.Metadata[i].Number = i + 1
	}
}

// entered puts what was sent in place of the form's values, and returns it.
func (p *page) entered(form *customerForm) (in grahak.CustomerInput) {
	for i := range form.Fields {
		field := &form.Fields[i]
		field.Value = p.field(field.Name)
		for _, known := range formInputs {
			if known.field.Name == field.Name {
				*known.input(&in) = grahak.Input{Value: field.Value, Given: true}
			}
		}
	}
	form.Metadata = nil
	keys, values := p.form["metadata_key"], p.form["metadata_value"]
	for i := range min(len(keys), len(values)) {
		key, value := strings.TrimSpace(keys[i]), strings.TrimSpace(values[i])
		if key == "" && value == "" {
			continue
		}
		in.Metadata.Pairs = append(in.Metadata.Pairs, grahak.MetadataPair{Key: key, Value: value})
		form.Metadata = append(form.Metadata, metadataRow{Key: key, Value: value})
	}
	form.addMetadata()
	return in
}

// mark notes at the form's fields what an error says of them, and reports whether the
// form is to be shown again.
func (f *customerForm) mark(err error) bool {
	var known *grahak.Error
	if !errors.As(err, &known) {
		return false
	}
	switch known.Code {
	case grahak.CodeInvalidField:
		for _, in := range formInputs {
			at := slices.IndexFunc(f.Fields, func(field formField) bool { return field.Name == in.field.Name })
			if at >= 0 && slices.Contains(known.Fields, in.is) {
				f.Fields[at].Error = in.wrong
			}
		}
		if slices.Contains(known.Fields, grahak.FieldMetadata) {
			f.MetadataError = "A customer has at most 50 keys. A key has 1 to 40 characters, a value at most 500, and neither has line breaks."
		}
		return true
	case grahak.CodeDuplicateReference:
		f.Fields[0].Error = "Another customer has this reference."
		if known.Customer != "" {
			f.Duplicate = customerPath(f.Base, known.Customer)
		}
		return true
	}
	return false
}

var errNotAdmin = grahak.Errorf(grahak.CodeInsufficientScope, "Admins change customers.")

func newCustomer(p *page) error {
	form := p.customerForm(nil)
	if !form.Admin() {
		return errNotAdmin
	}
	return p.render("customerform", "New customer", form)
}

func createCustomer(p *page) error {
	form := p.customerForm(nil)
	made, err := p.edge.service.CreateCustomer(p.ctx(), p.Caller, p.entered(&form), grahak.WriteOptions{})
	if form.mark(err) {
		return p.refuse("customerform", "New customer", form)
	}
	if err != nil {
		return err
	}
	return p.redirect(customerPath(form.Base, made.Customer.ID), flash{Text: "The customer was added."})
}

// editCustomer shows a person's data in a form, which is a look at it.
func editCustomer(p *page) error {
	c, err := p.edge.service.RevealCustomer(p.ctx(), p.Caller, grahak.CustomerID(p.value("customer")))
	if err != nil {
		return err
	}
	return p.render("customerform", "Edit customer", p.customerForm(&c))
}

// version returns the version of the customer in the path that a form was made from.
func (p *page) version() (grahak.Version, error) {
	revision, err := strconv.ParseInt(p.field("revision"), 10, 64)
	if err != nil {
		return grahak.Version{}, errMalformedForm
	}
	return grahak.Version{Customer: grahak.CustomerID(p.value("customer")), Revision: revision}, nil
}

func saveCustomer(p *page) error {
	version, err := p.version()
	if err != nil {
		return err
	}
	form := p.customerForm(&grahak.Customer{ID: version.Customer, Revision: version.Revision})
	in := p.entered(&form)
	saved, err := p.edge.service.UpdateCustomer(p.ctx(), p.Caller, string(version.Customer), in,
		grahak.WriteOptions{Match: &grahak.Match{Versions: []grahak.Version{version}}})
	if grahak.CodeOf(err) == grahak.CodePreconditionFailed {
		return p.showNewer(form)
	}
	if form.mark(err) {
		return p.refuse("customerform", "Edit customer", form)
	}
	if err != nil {
		return err
	}
	said := "Saved."
	if saved.Customer.Revision == version.Revision {
		said = "Nothing was changed."
	}
	return p.redirect(form.Back, flash{Text: said})
}

// showNewer shows a customer who was changed meanwhile as that is now, and what was
// entered over what has gone.
func (p *page) showNewer(entered customerForm) error {
	c, err := p.edge.service.RevealCustomer(p.ctx(), p.Caller, entered.ID)
	if err != nil {
		return err
	}
	form := p.customerForm(&c)
	form.Problem = "Somebody has changed this customer meanwhile. These are the newer values; nothing of yours was saved."
	for i := range form.Fields {
		if mine := entered.Fields[i].Value; mine != form.Fields[i].Value {
			form.Fields[i].Hint = "You had entered: " + cmp.Or(mine, "nothing")
		}
	}
	return p.refuse("customerform", "Edit customer", form)
}

// eraseView asks before a customer is erased.
type eraseView struct {
	place
	ID      grahak.CustomerID
	Back    string
	Confirm confirmation
}

// eraseView returns the question before a customer of a revision is erased.
func (p *page) eraseView(v grahak.Version) eraseView {
	at := p.place()
	back := customerPath(at.Base, v.Customer)
	return eraseView{
		place: at, ID: v.Customer, Back: back,
		Confirm: confirmation{
			URL: back + "/erase", Word: string(v.Customer), Button: "Erase this customer",
			Hidden: []hidden{{"revision", strconv.FormatInt(v.Revision, 10)}},
		},
	}
}

func showEraseCustomer(p *page) error {
	c, err := p.edge.service.MaskedCustomer(p.ctx(), p.Caller, grahak.CustomerID(p.value("customer")))
	if err != nil {
		return err
	}
	view := p.eraseView(c.Version())
	if !view.Admin() {
		return errNotAdmin
	}
	return p.render("customererase", "Erase customer", view)
}

func eraseCustomer(p *page) error {
	version, err := p.version()
	if err != nil {
		return err
	}
	view := p.eraseView(version)
	if !view.Admin() {
		return errNotAdmin
	}
	typed, err := p.names(version.Customer)
	if err != nil {
		return err
	}
	if !typed {
		view.Confirm.Error = "This is neither the customer's id nor the reference: nothing was erased."
		return p.refuse("customererase", "Erase customer", view)
	}
	_, err = p.edge.service.EraseCustomer(p.ctx(), p.Caller, string(version.Customer),
		grahak.WriteOptions{Match: &grahak.Match{Versions: []grahak.Version{version}}})
	if grahak.CodeOf(err) == grahak.CodePreconditionFailed {
		return p.redirect(view.Back, flash{Text: "Somebody has changed this customer meanwhile, so nothing was erased: look again.", Trouble: true})
	}
	if err != nil {
		return err
	}
	return p.redirect(view.Back, flash{Text: "The customer was erased."})
}

// names reports whether the confirmation that was typed is a customer's id or reference.
func (p *page) names(id grahak.CustomerID) (bool, error) {
	typed := p.field("confirm")
	if typed == string(id) {
		return true, nil
	}
	found, err := p.edge.service.FindCustomer(p.ctx(), p.Caller, typed)
	return err == nil && found.Kind == grahak.FoundReference && found.Customers[0].ID == id, err
}
