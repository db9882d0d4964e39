package dashboard

import "cmp"

// badge is a word with a colour: ok, warn, bad, info or plain. The word says all.
type badge struct{ Kind, Text string }

// formField is a field of a form with its label. With options it is a choice among them.
type formField struct {
	Name  string
	Label string
	Value string
	// Hint says what is expected, Error why what was entered is refused.
	Hint, Error string

	Type         string // of the input; default text
	Autocomplete string
	InputMode    string
	MaxLength    int
	Required     bool
	Focus        bool
	Mono         bool // in letters of one width
	Options      []option
	// Key tells fields of one name apart where a page has several forms.
	Key string
}

// option is one of a field's choices.
type option struct {
	Value, Label string
	Selected     bool
}

// ID is what the label refers to.
func (f formField) ID() string { return "f-" + f.Key + f.Name }

// InputType is the type of the input.
func (f formField) InputType() string { return cmp.Or(f.Type, "text") }

// choices returns options with the current one selected.
func choices(current string, all ...option) []option {
	for i := range all {
		all[i].Selected = all[i].Value == current
	}
	return all
}

// empty is what stands in place of a list with nothing in it: what it is, and what to do
// next.
type empty struct {
	Title, Text string
	// Action is the text of a link to URL, if there is one.
	Action, URL string
}

// pager leads from a page of a list to the next one. Empty URLs are not shown.
type pager struct {
	First, Next string
}

// tab is a link to another view of the same page.
type tab struct {
	Label, URL string
	Current    bool
}

// secretBox shows what will not be shown again.
type secretBox struct {
	Label, Value string
	// Note says what it is for.
	Note string
}

// Copy is the button that copies it.
func (s secretBox) Copy() copyable { return copyable{s.Label, s.Value} }

// copyable is a text with a button that copies it.
type copyable struct {
	// Label says what is copied.
	Label, Text string
}

// link is a text that leads somewhere if it has a URL.
type link struct{ Text, URL string }

// hidden is a field that nobody fills in.
type hidden struct{ Name, Value string }

// confirmation is a form that wants Word typed before it does what cannot be undone. The
// field is named confirm; whether it holds the word is for a use case or a handler to
// check.
type confirmation struct {
	URL    string
	Word   string
	Button string
	Error  string
	Hidden []hidden
}

// Field is the confirmation's field.
func (c confirmation) Field() formField {
	return formField{
		Name: "confirm", Key: "typed-", Label: "Type " + c.Word + " to confirm", Error: c.Error,
		Autocomplete: "off", Required: true, Mono: true,
	}
}
