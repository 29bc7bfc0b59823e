package near

import (
	"slices"
	"strings"
	"testing"
)

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "", 1}, {"", "abc", 3}, {"kitten", "sitting", 3}, {"flaw", "lawn", 2}, {"same", "same", 0}, {"imgae", "image", 2},
	} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestNames(t *testing.T) {
	names := []string{"web", "web-2", "wep", "db", "web", "WEB"}
	prefix := func(name string) int {
		if strings.HasPrefix(name, "web") {
			return 1
		}
		return Never
	}
	for _, c := range []struct {
		want      string
		far, most int
		alike     func(string) int
		near      []string
	}{
		{"web", 1, 9, nil, []string{"web", "WEB", "wep"}},
		{"web", 2, 9, nil, []string{"web", "WEB", "wep", "web-2", "db"}},
		{"web", 1, 9, prefix, []string{"web", "WEB", "web-2", "wep"}},
		{"web", 2, 2, nil, []string{"web", "WEB"}},
		{"frobnicate", 2, 9, nil, nil},
		{"", 2, 9, nil, []string{"db"}},
	} {
		if got := Names(c.want, names, c.far, c.most, c.alike); !slices.Equal(got, c.near) {
			t.Errorf("Names(%q, far %d, most %d) = %q, want %q", c.want, c.far, c.most, got, c.near)
		}
	}
}
