package configs

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Trust is the directory, in berth's state directory, in which it is kept which
// repositories' files the user trusts: by the top of the working tree and the
// SHA-256 of the content, in hex. So a file that changes is not trusted any
// more, and one that is changed back is.
type Trust string

// TrustDir is that directory.
func (d Dirs) TrustDir() Trust { return Trust(filepath.Join(d.State, "trust")) }

// Trusted is a file that the user trusts.
type Trusted struct {
	Root string    `json:"root"` // top of the working tree
	Sum  string    `json:"sha256"`
	At   time.Time `json:"at"`
}

func (t Trust) path(root, sum string) string {
	key := sha256.Sum256([]byte(root + "\x00" + sum))
	return filepath.Join(string(t), hex.EncodeToString(key[:16])+".json")
}

// Has tells whether a content is trusted. What cannot be read is not.
func (t Trust) Has(root, sum string) bool {
	if t == "" {
		return false
	}
	e, err := readTrusted(t.path(root, sum))
	return err == nil && e.Root == root && e.Sum == sum
}

// Add trusts a content, at a time.
func (t Trust) Add(root, sum string, at time.Time) error {
	data, err := json.Marshal(Trusted{Root: root, Sum: sum, At: at})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(string(t), 0o700); err != nil {
		return fmt.Errorf("remember trust: %w", err)
	}
	f, err := os.CreateTemp(string(t), ".tmp-*")
	if err != nil {
		return fmt.Errorf("remember trust: %w", err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), t.path(root, sum))
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("remember trust: %w", err)
	}
	return nil
}

// List lists what is trusted, by root and time.
func (t Trust) List() ([]Trusted, error) {
	entries, err := os.ReadDir(string(t))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	list := []Trusted{}
	for _, e := range entries {
		path := filepath.Join(string(t), e.Name())
		if trusted, err := readTrusted(path); err == nil && t.path(trusted.Root, trusted.Sum) == path {
			list = append(list, trusted)
		}
	}
	slices.SortFunc(list, func(a, b Trusted) int { return cmp.Or(cmp.Compare(a.Root, b.Root), a.At.Compare(b.At)) })
	return list, nil
}

// Revoke ends the trust in all contents of a root's file, and returns how many
// there were.
func (t Trust) Revoke(root string) (int, error) {
	list, err := t.List()
	if err != nil {
		return 0, err
	}
	n := 0
	for _, e := range list {
		if e.Root != root {
			continue
		}
		if err := os.Remove(t.path(e.Root, e.Sum)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return n, err
		}
		n++
	}
	return n, nil
}

func readTrusted(path string) (Trusted, error) {
	var e Trusted
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &e)
	}
	return e, err
}
