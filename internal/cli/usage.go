package cli

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/alecthomas/kong"
)

// usageError is a command line that cannot be understood.
type usageError struct {
	error
	// help is the command that explains; run sets it.
	help string
}

func (e usageError) Unwrap() error { return e.error }

// wrongUse returns a usageError with the given text.
func wrongUse(format string, args ...any) error {
	return usageError{error: fmt.Errorf(format, args...)}
}

// Where kong's own words name its insides, these say it in the user's.
var rewording = []struct {
	kong *regexp.Regexp
	ours string
}{
	{regexp.MustCompile(`^(-\S+): expected \S+ value but got "(-\d\S*)" .*$`), `$1: a value that begins with - needs an equals sign: $1=$2`},
	{regexp.MustCompile(`^(-\S+): expected \S+ value but got .*$`), `$1 needs a value`},
	{regexp.MustCompile(`^(-\S+): expected a valid \d+ bit int but got ("[^"]*")`), `$1: $2 is not a whole number`},
	{regexp.MustCompile(`^(-\S+): bool value must be .* but got ("[^"]*")`), `$1: $2 is neither true nor false`},
	{regexp.MustCompile(`( must be one of )"",`), `$1`},
	{regexp.MustCompile(`^missing flags: `), `missing `},
	{regexp.MustCompile(`^expected "(<.*>)"$`), `missing $1`},
	{regexp.MustCompile(`^unexpected argument (\S+)`), `unexpected argument "$1"`},
	{regexp.MustCompile(` \(from envar (\w+)=.*\)$`), ` (from $1)`},
}

// misparsed is kong's error as a usageError.
func misparsed(err error) error {
	var parse *kong.ParseError
	if !errors.As(err, &parse) {
		return usageError{err, "grahak --help"}
	}
	node := parse.Context.Selected()
	if node == nil {
		node = parse.Context.Model.Node
	}
	return usageError{errors.New(reword(parse.Error(), node)), node.FullPath() + " --help"}
}

// reword is kong's sentence about the command line of node in the user's words.
func reword(sentence string, node *kong.Node) string {
	if len(node.Children) > 0 {
		names := make([]string, len(node.Children))
		for i, child := range node.Children {
			names[i] = child.Name
		}
		known := strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
		switch word, unknown := strings.CutPrefix(sentence, "unexpected argument "); {
		case unknown:
			word, guess, _ := strings.Cut(word, ", ")
			if guess == "" {
				guess = "give " + known
			}
			return fmt.Sprintf("there is no command %q: %s", word, guess)
		case strings.HasPrefix(sentence, "expected one of "):
			return "the command is missing: give " + known
		}
	}
	for _, r := range rewording {
		sentence = r.kong.ReplaceAllString(sentence, r.ours)
	}
	return sentence
}
