package configs

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
)

// schemaCheck checks a file against the schema, as an editor does.
func schemaCheck(t *testing.T, text string) error {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("berth.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("berth.json")
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		return err
	}
	data, err := json.Marshal(v) // the types of JSON: a date is a text
	if err != nil {
		return err
	}
	if v, err = jsonschema.UnmarshalJSON(bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	return s.Validate(v)
}

// TestSchemaHasTheKeys compares schema, types and the table of keys, so that a
// key cannot be added to one alone.
func TestSchemaHasTheKeys(t *testing.T) {
	type node struct {
		Description string
		Properties  map[string]node
	}
	var schema node
	if err := json.Unmarshal(Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	var inSchema, inTypes, inTable []string
	for name, p := range schema.Properties {
		if p.Description == "" {
			t.Errorf("%s has no description", name)
		}
		inSchema = append(inSchema, name)
		for sub, p := range p.Properties {
			if p.Description == "" {
				t.Errorf("%s.%s has no description", name, sub)
			}
			inSchema = append(inSchema, name+"."+sub)
		}
	}
	tag := func(f reflect.StructField) string {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		return name
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		inTypes = append(inTypes, tag(f))
		if f.Type.Kind() == reflect.Struct && f.Type != reflect.TypeFor[Carry]() {
			for _, sub := range reflect.VisibleFields(f.Type) {
				inTypes = append(inTypes, tag(f)+"."+tag(sub))
			}
		}
	}
	for _, name := range keyNames("") {
		inTable = append(inTable, name)
		for _, sub := range keyNames(name + ".") {
			inTable = append(inTable, name+"."+sub)
		}
	}
	inTable = append(inTable, "setup.run", "setup.key") // one value, read as a whole
	slices.Sort(inSchema)
	slices.Sort(inTypes)
	slices.Sort(inTable)
	if !slices.Equal(inSchema, inTypes) {
		t.Errorf("the schema has\n%q, the types have\n%q", inSchema, inTypes)
	}
	if !slices.Equal(inTable, inTypes) {
		t.Errorf("the table of keys has\n%q, the types have\n%q", inTable, inTypes)
	}
	for _, name := range inTable {
		if !strings.HasPrefix(name, "setup.") && hints[name] == "" {
			t.Errorf("%s has no hint", name)
		}
	}
}

func TestSchemaHasTheDefaults(t *testing.T) {
	var schema struct {
		Properties map[string]struct {
			Default    any
			Properties map[string]struct{ Default any }
		}
	}
	if err := json.Unmarshal(Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	p := schema.Properties
	got := []any{p["image"].Default, p["carry"].Default, p["caches"].Default, p["network"].Default, p["limits"].Properties["pids"].Default}
	if want := []any{Image, string(Auto), string(Auto), string(NetworkFull), float64(Pids)}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestExamples(t *testing.T) {
	files, err := filepath.Glob("examples/*.yaml")
	if err != nil || len(files) != 3 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		l, err := parse(data, FromRepo, file)
		if err != nil {
			t.Error(err)
		}
		if len(l.From) < 5 {
			t.Errorf("%s sets only %v", file, l.From)
		}
		if err := schemaCheck(t, string(data)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		// An example must work as it is.
		below := Defaults()
		for _, k := range keys() {
			if _, set := l.From[k.name]; set && k.asks(&l.Config, &below.Config) {
				t.Errorf("%s: %s counts only when trusted", file, k.name)
			}
		}
	}
}
