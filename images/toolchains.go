package images

import (
	"path/filepath"
	"slices"
	"strings"
)

// toolchain is a version manager or language that installs below the home directory. It is mounted when PATH names
// its root or anything below it.
type toolchain struct {
	root     string   // relative to home, or absolute for the few outside it
	variable string   // names another root below home, when set
	mounts   []string // what programs need, by glob relative to root; none: the root as a whole
}

// toolchains is the known list. A root is mounted whole only where its manager keeps nothing but programs in it:
// ~/.cargo holds credentials.toml, ~/.dotnet holds development keys, ~/.local/share everything else.
var toolchains = []toolchain{
	// Node.js and other JavaScript
	{root: ".nvm", variable: "NVM_DIR"},
	{root: ".volta", variable: "VOLTA_HOME"},
	{root: ".nodenv", variable: "NODENV_ROOT"},
	{root: ".local/share/fnm", variable: "FNM_DIR"},
	{root: ".local/share/pnpm", variable: "PNPM_HOME"},
	{root: ".n", variable: "N_PREFIX", mounts: []string{"bin", "lib/node_modules"}},
	{root: ".npm-global"},
	{root: ".yarn", mounts: []string{"bin"}},
	{root: ".bun", variable: "BUN_INSTALL", mounts: []string{"bin", "install/global"}},
	{root: ".deno", variable: "DENO_INSTALL", mounts: []string{"bin"}},
	// Python
	{root: ".pyenv", variable: "PYENV_ROOT"},
	{root: "miniconda3"}, {root: "miniforge3"}, {root: "anaconda3"}, {root: "mambaforge"},
	{root: ".local/bin"},
	{root: ".local", mounts: []string{"lib/python3*", "pipx/venvs", "share/pipx/venvs", "share/uv/tools", "share/uv/python", "lib/node_modules"}},
	// Rust: the programs of cargo/bin are links to rustup, which wants its toolchains
	{root: ".cargo", variable: "CARGO_HOME", mounts: []string{"bin"}},
	// Go: go install, golang.org/dl, an unpacked release
	{root: "go", variable: "GOPATH", mounts: []string{"bin"}},
	{root: "sdk", mounts: []string{"go1*", "gotip"}},
	{root: ".local/go", variable: "GOROOT"},
	{root: ".goenv", variable: "GOENV_ROOT"},
	// Ruby, Java, .NET, Haskell, OCaml, Julia, Swift, Lean
	{root: ".rbenv", variable: "RBENV_ROOT"},
	{root: ".sdkman", variable: "SDKMAN_DIR", mounts: []string{"candidates"}},
	{root: ".jenv", variable: "JENV_ROOT"},
	{root: ".dotnet", variable: "DOTNET_ROOT", mounts: []string{"dotnet", "host", "sdk", "shared", "packs", "tools"}},
	{root: ".ghcup", mounts: []string{"bin", "ghc", "hls"}},
	{root: ".cabal", mounts: []string{"bin"}},
	{root: ".opam", variable: "OPAMROOT"},
	{root: ".juliaup", mounts: []string{"bin"}},
	{root: ".elan"},
	// Several languages at once
	{root: ".asdf", variable: "ASDF_DATA_DIR"},
	{root: ".local/share/mise", variable: "MISE_DATA_DIR"},
	{root: ".nix-profile"},
	// Outside home. Of /nix not the rest: its daemon's socket would let a job write to the store.
	{root: "/nix", mounts: []string{"store", "var/nix/profiles"}},
	{root: "/home/linuxbrew/.linuxbrew"},
	{root: "/snap"},
}

// companions are paths below home that a toolchain needs but that PATH does not name: variable, default, and the
// root (of the table) that wants it.
var companions = []struct{ of, root, variable string }{
	{of: ".cargo", root: ".rustup", variable: "RUSTUP_HOME"},
	{of: ".asdf", root: ".tool-versions"},
	{of: ".juliaup", root: ".julia/juliaup"},
	{of: ".nix-profile", root: "/nix/store"},
}

// shared are directories below home that hold other things than one toolchain, and keys and tokens among them. A
// variable that names one is not followed: N_PREFIX=~/.local is common.
var shared = []string{".", ".local", ".local/share", ".local/state", ".config", ".cache"}

// toolchainPaths lists the host paths that the toolchains named by the PATH of env need. They may not exist.
func toolchainPaths(home string, env []string) []string {
	vars := lookup(env)
	dirs := filepath.SplitList(vars["PATH"])
	var paths []string
	for _, t := range toolchains {
		root, ok := resolveRoot(home, t.root, vars[t.variable])
		if !ok || !slices.ContainsFunc(dirs, func(dir string) bool { return within(root, filepath.Clean(dir)) }) {
			continue
		}
		if len(t.mounts) == 0 {
			paths = append(paths, root)
		}
		for _, pattern := range t.mounts {
			paths = append(paths, glob(quoteGlob(root)+"/"+pattern)...)
		}
		for _, c := range companions {
			if c.of != t.root {
				continue
			}
			if path, ok := resolveRoot(home, c.root, vars[c.variable]); ok {
				paths = append(paths, path)
			}
		}
	}
	return paths
}

// resolveRoot finds where a toolchain lives: where its variable says when that is below home, else at its usual
// place. Other values are not trusted with a mount: /usr and /opt are there anyway.
func resolveRoot(home, root, value string) (string, bool) {
	if filepath.IsAbs(root) {
		return root, true
	}
	if home == "" || filepath.Clean(home) == "/" {
		return "", false
	}
	value, _, _ = strings.Cut(value, ":") // GOPATH is a list, and go install uses the first
	if filepath.IsAbs(value) {
		value = filepath.Clean(value)
		if rel, ok := below(filepath.Clean(home), value); ok && !slices.Contains(shared, rel) {
			return value, true
		}
	}
	return filepath.Join(home, root), true
}

// quoteGlob makes a path match itself in a glob.
func quoteGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
