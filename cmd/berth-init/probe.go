//go:build linux

package main

import (
	"os"

	"berth/runner/control"
)

// probe does to the directory dir what jobs do to their files, where not every overlay file system can. The caller has
// put there the directory a with a file in it, and the file b. The exit code says what failed.
func probe(dir string) int {
	if os.Rename(dir+"/a", dir+"/c") != nil || !isFile(dir+"/c/file") {
		return control.ProbeRename
	}
	if os.Remove(dir+"/b") != nil || isFile(dir+"/b") {
		return control.ProbeRemove
	}
	if os.Mkdir(dir+"/a", 0o755) != nil || isFile(dir+"/a/file") || os.WriteFile(dir+"/a/file", []byte("x"), 0o600) != nil {
		return control.ProbeWrite
	}
	return 0
}

func isFile(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular()
}
