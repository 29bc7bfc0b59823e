package configs

import _ "embed"

//go:embed berth.schema.json
var schema []byte

// Schema is the JSON schema of berth.yaml, for editors and checkers. It cannot
// say all that the reading checks: ranges of what is written as text, mostly.
func Schema() []byte { return schema }
