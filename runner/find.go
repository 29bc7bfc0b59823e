package runner

import (
	"slices"
	"strings"
)

// minIDTail is how much of the end of an ID must be given to mean a job. The
// beginning of a ULID is its time, which neighbours share.
const minIDTail = 4

// Find picks the job that a name means: a handle, an ID, or the end of one.
// Where a handle was used again the newest job has it. Records are in order of
// age, oldest first. Errors: *[UnknownJobError], *[AmbiguousJobError].
func Find(name string, records []Record) (Record, error) {
	for _, r := range slices.Backward(records) {
		if r.Handle == name || strings.EqualFold(r.ID, name) {
			return r, nil
		}
	}
	var found []Record
	if len(name) >= minIDTail {
		for _, r := range records {
			if strings.HasSuffix(r.ID, strings.ToUpper(name)) {
				found = append(found, r)
			}
		}
	}
	switch len(found) {
	case 0:
		return Record{}, &UnknownJobError{Job: name, Near: near(name, records)}
	case 1:
		return found[0], nil
	}
	return Record{}, &AmbiguousJobError{Job: name, Jobs: found}
}

// near lists handles that somebody who wrote name may have meant, best first.
func near(name string, records []Record) []string {
	type candidate struct {
		handle   string
		distance int
	}
	var candidates []candidate
	for _, r := range records {
		d := distance(strings.ToLower(name), strings.ToLower(r.Handle))
		if strings.HasPrefix(r.Handle, name) || strings.HasPrefix(name, r.Handle) {
			d = min(d, 1)
		}
		if d <= 2 && !slices.ContainsFunc(candidates, func(c candidate) bool { return c.handle == r.Handle }) {
			candidates = append(candidates, candidate{r.Handle, d})
		}
	}
	slices.SortStableFunc(candidates, func(a, b candidate) int { return a.distance - b.distance })
	var names []string
	for _, c := range candidates[:min(len(candidates), 3)] {
		names = append(names, c.handle)
	}
	return names
}

// distance is the number of bytes to insert, delete or replace to get from a
// to b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
