package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// maxSample bounds how many customers the reads choose among.
const maxSample = 100_000

// population is the customers that were made before a run. The files have a line
// for each of at most maxSample of them, evenly spread over all, as it stands in
// a URL.
type population struct {
	customers int
	ids       string
	// references are the e-mail addresses too.
	references string
	mobiles    string
	took       time.Duration
}

func newPopulation(g *grahak, customers int) population {
	return population{
		customers:  customers,
		ids:        filepath.Join(g.dir, "ids"),
		references: filepath.Join(g.dir, "references"),
		mobiles:    filepath.Join(g.dir, "mobiles"),
	}
}

// step is how far those are apart that the files have lines for.
func (p population) step() int { return (p.customers + maxSample - 1) / maxSample }

// sampled is how many lines the files have.
func (p population) sampled() int { return (p.customers + p.step() - 1) / p.step() }

// write writes the files, given the ids.
func (p population) write(ids []string) error {
	references, mobiles := make([]string, len(ids)), make([]string, len(ids))
	for i := range ids {
		references[i], mobiles[i] = populated(i*p.step()), populatedMobile(i*p.step())
	}
	return errors.Join(writeLines(p.ids, ids), writeLines(p.references, references), writeLines(p.mobiles, mobiles))
}

// populate creates customers over many connections.
func (g *grahak) populate(ctx context.Context, customers int) (population, error) {
	p := newPopulation(g, customers)
	ids := make([]string, p.sampled())
	start := time.Now()
	if err := concurrently(ctx, customers, func(ctx context.Context, i int) error {
		id, _, err := createCustomer(ctx, g.server, populated(i), populatedMobile(i))
		if i%p.step() == 0 {
			ids[i/p.step()] = id
		}
		return err
	}); err != nil {
		return p, err
	}
	p.took = time.Since(start)
	return p, p.write(ids)
}

// populated returns the i-th customer's reference and e-mail address, as long as
// those of load.lua.
func populated(i int) string { return fmt.Sprintf("populated00-0-%09d%%40example.com", i) }

// populatedMobile returns the i-th customer's number, as long as those of
// load.lua and below them for the first ten million.
func populatedMobile(i int) string { return fmt.Sprintf("%010d", i) }

func writeLines(file string, lines []string) error {
	return os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600)
}

// createCustomer asks s for a customer like those of load.lua. It returns the
// customer's id and the whole answer.
func createCustomer(ctx context.Context, s *server, reference, mobile string) (string, *reply, error) {
	form := "object_reference_id=" + reference + "&mobile_number=" + mobile + "&email_address=" + reference + "&first_name=Asha&last_name=Rao"
	answer, err := send(ctx, http.MethodPost, s.url+"/customers", s.key, form)
	if err != nil {
		return "", nil, err
	}
	var customer struct{ ID string }
	return customer.ID, answer, json.Unmarshal(answer.Body, &customer)
}

// page is what is of interest in a list.
type page struct {
	Count int
	Total int64
	Next  string
}

// page reads a list.
func (g *grahak) page(ctx context.Context, query string) (p page, err error) {
	answer, err := send(ctx, http.MethodGet, g.url+"/customers?"+query, g.key, "")
	if err != nil {
		return p, err
	}
	return p, json.Unmarshal(answer.Body, &p)
}

// total returns how many customers there are.
func (g *grahak) total(ctx context.Context) (int64, error) {
	p, err := g.page(ctx, "count=1")
	return p.Total, err
}

// maxCursors bounds how many places in a list the pages begin at, and maxOffset
// is the API's bound.
const (
	maxCursors = 1_000
	maxOffset  = 10_000
)

// cursors writes a file of cursors that are evenly spread over the list of that
// many customers, each with more than a page of them behind it.
func (g *grahak) cursors(ctx context.Context, customers, behind int) (file string, err error) {
	step := min(max(1, customers/maxCursors), maxOffset)
	var lines []string
	query := "count=1&offset=" + strconv.Itoa(step-1)
	for after := ""; (len(lines)+1)*step+behind <= customers; {
		p, err := g.page(ctx, query+"&after="+url.QueryEscape(after))
		if err != nil {
			return "", err
		}
		after = p.Next
		lines = append(lines, url.QueryEscape(after))
	}
	file = filepath.Join(g.dir, "cursors")
	return file, writeLines(file, lines)
}

// wantCount makes sure that the answers to t are lists of that many customers, by
// asking for some of them: an answer without any would be a fast one.
func (g *grahak) wantCount(ctx context.Context, t target, want int) error {
	lines := []string{""}
	if t.file != "" {
		raw, err := os.ReadFile(t.file)
		if err != nil {
			return err
		}
		lines = strings.Fields(string(raw))
	}
	for i := 0; i < len(lines); i += 1 + len(lines)/50 {
		_, query, _ := strings.Cut(t.path+lines[i], "?")
		p, err := g.page(ctx, query)
		if err == nil && p.Count != want {
			err = fmt.Errorf("%s has %d customers for %s, not %d", g.name, p.Count, t.path, want)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// disk is what the data folder takes.
type disk struct {
	Bytes     int64 `json:"bytes"`
	Customers int64 `json:"customers"`
}

// each is how many bytes a customer takes.
func (d disk) each() float64 { return float64(d.Bytes) / float64(d.Customers) }

func (d disk) String() string {
	return fmt.Sprintf("%.0f bytes for each of %d customers, all included (%.1f MB after a clean stop)", d.each(), d.Customers, float64(d.Bytes)/1e6)
}

// stopAndWeigh stops g and returns what its data folder takes then: the database
// with all its indexes, events and chain, and what is left of its log.
func (g *grahak) stopAndWeigh(ctx context.Context) (d disk, err error) {
	if d.Customers, err = g.total(ctx); err != nil {
		return d, err
	}
	if err := g.stop(); err != nil {
		return d, err
	}
	err = filepath.WalkDir(g.data(), func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			d.Bytes += info.Size()
		}
		return err
	})
	return d, err
}
