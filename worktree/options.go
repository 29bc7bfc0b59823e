package worktree

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// maxOptions is how long the options of a mount may be: the kernel takes one page, which is 4096 bytes at the least, with
// a zero at the end. Longer ones it cuts, and then misses some layer.
const maxOptions = 4095

// longTemp is how long the name of the directory for temporary files may be for short names to go there.
const longTemp = 24

// LayersError says that there are more layers than one mount can have.
type LayersError struct{ Layers int }

func (e *LayersError) Error() string {
	return fmt.Sprintf("%d layers of files are more than one mount can have", e.Layers)
}

// overlayOptions are the options that mount an overlay file system of layers. Where they would be too long, or a path has a character that means something
// in them, the layers get short names: symbolic links in the directory links, which the caller removes with the workspace.
func overlayOptions(layers []string, upper, work, redirect string) (options, links string, err error) {
	// With metacopy a file whose mode alone has changed would have no contents in its layer.
	format := func(layers []string, upper, work string) string {
		return "lowerdir=" + strings.Join(layers, ":") + ",upperdir=" + upper + ",workdir=" + work + ",redirect_dir=" + redirect + ",metacopy=off"
	}
	options = format(layers, upper, work)
	if len(options) <= maxOptions && !strings.ContainsAny(strings.Join(layers, "")+upper+work, `\,:`) {
		return options, "", nil
	}
	tmp := os.TempDir()
	if strings.ContainsAny(tmp, `\,:`) || !filepath.IsAbs(tmp) || len(tmp) > longTemp {
		tmp = "/tmp"
	}
	if links, err = os.MkdirTemp(tmp, "b"); err != nil {
		return "", "", err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(links)
			links = ""
		}
	}()
	short := make([]string, 0, len(layers)+2)
	for i, path := range append(append([]string{}, layers...), upper, work) {
		name := filepath.Join(links, strconv.FormatInt(int64(i), 36))
		if err := os.Symlink(path, name); err != nil {
			return "", links, err
		}
		short = append(short, name)
	}
	n := len(layers)
	options = format(short[:n], short[n], short[n+1])
	if len(options) > maxOptions {
		return "", links, &LayersError{n}
	}
	return options, links, nil
}

// ProbeOverlay fills two empty directories for trying out an overlay file system as jobs have it, and returns its options, and a directory to be
// removed with the other two unless it is "". See `berth-init probe` for what is in them.
func ProbeOverlay(lower, upper string) (options, links string, err error) {
	own, work := filepath.Join(upper, upperName), filepath.Join(upper, workName)
	for _, d := range []string{own, work, filepath.Join(lower, "a")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return "", "", err
		}
	}
	for _, f := range []string{"a/file", "b"} {
		if err := os.WriteFile(filepath.Join(lower, f), nil, 0o644); err != nil {
			return "", "", err
		}
	}
	return overlayOptions([]string{lower}, own, work, "on")
}
