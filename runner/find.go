package runner

import (
	"slices"
	"strings"

	"berth/internal/near"
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
		return Record{}, &UnknownJobError{Job: name, Near: nearHandles(name, records)}
	case 1:
		return found[0], nil
	}
	return Record{}, &AmbiguousJobError{Job: name, Jobs: found}
}

// nearHandles lists handles that somebody who wrote name may have meant, best
// first.
func nearHandles(name string, records []Record) []string {
	handles := make([]string, len(records))
	for i, r := range records {
		handles[i] = r.Handle
	}
	return near.Names(name, handles, 2, 3, func(handle string) int {
		if strings.HasPrefix(handle, name) || strings.HasPrefix(name, handle) {
			return 1
		}
		return near.Never
	})
}
