// Package near finds the names that somebody may have meant who wrote one that
// there is not. It imports nothing else of berth.
package near

import (
	"slices"
	"strings"
)

// Names lists up to most of the names that are at most far from want, nearest
// first and each once; those equally far keep their order. How far apart two
// are is the number of bytes to insert, delete or replace, whatever their case.
// alike, which may be nil, brings a name nearer: it gets the name and returns a
// distance, which counts if it is smaller.
func Names(want string, names []string, far, most int, alike func(name string) int) []string {
	type candidate struct {
		name     string
		distance int
	}
	var found []candidate
	for _, name := range names {
		d := distance(strings.ToLower(want), strings.ToLower(name))
		if alike != nil {
			d = min(d, alike(name))
		}
		if d <= far && !slices.ContainsFunc(found, func(c candidate) bool { return c.name == name }) {
			found = append(found, candidate{name, d})
		}
	}
	slices.SortStableFunc(found, func(a, b candidate) int { return a.distance - b.distance })
	var near []string
	for _, c := range found[:min(len(found), most)] {
		near = append(near, c.name)
	}
	return near
}

// Never is the distance for alike to return of names that are not alike.
const Never = int(^uint(0) >> 1)

// distance is Levenshtein's, over bytes.
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
