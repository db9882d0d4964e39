package dashboard

// Headers are those on every answer.
var Headers = headers

// Routes returns the method and the path of every route, and whether it is for
// everybody.
func (e *Edge) Routes() map[string]bool {
	all := make(map[string]bool, len(e.routes))
	for _, r := range e.routes {
		all[r.method+" "+r.path] = r.access == open
	}
	return all
}
