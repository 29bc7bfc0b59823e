// Package dev holds what developers of berth need: the scripts behind the
// Makefile, and a test of which package may depend on what.
package dev

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module = "berth/"
	root   = "../../.."
)

// layers are our packages from the top down: a package depends on lower ones
// only. All below cmd is one package here. What has no line must not be there,
// so that a new package gets its place.
var layers = [][]string{
	{"cmd"},
	{"runner/keeper"},
	{"runner"},
	{"runner/frugal"},
	{"images", "worktree", "runner/logstore", "runner/control"},
	{"configs", "worktree/overlay"},
	{"internal/near"},
}

// file is a Go file that is part of the product, so not a test.
type file struct {
	name    string // from the root
	pkg     string // its directory, from the root
	imports []string
	syntax  *ast.File
}

func TestDependenciesPointOneWay(t *testing.T) {
	for _, f := range parseAll(t) {
		from, ok := place(f.pkg)
		if !ok {
			t.Errorf("%s: the package %s has no layer", f.name, f.pkg)
			continue
		}
		for _, path := range f.imports {
			target, ours := strings.CutPrefix(path, module)
			if !ours {
				continue
			}
			to, ok := place(target)
			if !ok || to < from || to == from && layerName(f.pkg) != layerName(target) {
				t.Errorf("%s imports %s, which is not below it", f.name, path)
			}
		}
	}
}

// TestReservedImports has the rules about packages that only some may import.
func TestReservedImports(t *testing.T) {
	for _, f := range parseAll(t) {
		for _, path := range f.imports {
			docker := strings.HasPrefix(path, "github.com/docker/")
			if docker && f.pkg != "runner" && f.pkg != "images" {
				t.Errorf("%s imports %s: only runner and images know the Docker client", f.name, path)
			}
			third := strings.Contains(strings.Split(path, "/")[0], ".")
			inInit := f.pkg == "cmd/berth-init" || f.pkg == "runner/control" || f.pkg == "worktree/overlay"
			if inInit && third && !strings.HasPrefix(path, "golang.org/x/sys/") {
				t.Errorf("%s imports %s: init has the standard library and x/sys only", f.name, path)
			}
			if f.pkg == "cmd/berth-init" && strings.HasPrefix(path, module) && path != module+"runner/control" && path != module+"worktree/overlay" {
				t.Errorf("%s imports %s: init shares runner/control and worktree/overlay only", f.name, path)
			}
		}
	}
}

// TestOnlyWorktreeRunsGit looks for calls that start a program called git.
func TestOnlyWorktreeRunsGit(t *testing.T) {
	runs := false
	for _, f := range parseAll(t) {
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || !startsProgram(call) {
				return true
			}
			for _, arg := range call.Args {
				literal, ok := arg.(*ast.BasicLit)
				if !ok || literal.Kind != token.STRING {
					continue
				}
				if name, err := strconv.Unquote(literal.Value); err != nil || path.Base(name) != "git" {
					continue
				}
				if runs = true; f.pkg != "worktree" {
					t.Errorf("%s runs git: only worktree does", f.name)
				}
			}
			return true
		})
	}
	if !runs {
		t.Error("worktree does not run git in a way that this test knows")
	}
}

// startsProgram tells whether a call is one of a function that takes the name of
// a program.
func startsProgram(call *ast.CallExpr) bool {
	selector, ok := call.Fun.(*ast.SelectorExpr)
	return ok && slices.Contains([]string{"Command", "CommandContext", "LookPath", "StartProcess", "Exec", "ForkExec"}, selector.Sel.Name)
}

// place is the index of a package's layer.
func place(pkg string) (int, bool) {
	name := layerName(pkg)
	i := slices.IndexFunc(layers, func(layer []string) bool { return slices.Contains(layer, name) })
	return i, i >= 0
}

// layerName is the name by which layers know a package.
func layerName(pkg string) string {
	if pkg == "cmd" || strings.HasPrefix(pkg, "cmd/") {
		return "cmd"
	}
	return pkg
}

// parseAll parses the product's files for every platform.
func parseAll(t *testing.T) []file {
	t.Helper()
	var files []file
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := entry.Name()
		if entry.IsDir() {
			if name != root && (strings.HasPrefix(base, ".") || base == "testdata" || base == "bin") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(base, ".go") || strings.HasSuffix(base, "_test.go") {
			return nil
		}
		syntax, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		f := file{name: filepath.ToSlash(rel), syntax: syntax}
		f.pkg = path.Dir(f.name)
		for _, i := range syntax.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			f.imports = append(f.imports, p)
		}
		files = append(files, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil || len(files) == 0 {
		t.Fatal("these are not the files of the module: ", err)
	}
	return files
}
