// Command webserver is a small web server for the demo. It listens on port 4040
// of the loopback interface and answers every request with a line of text that
// tells servers apart: its host name, its directory, and its arguments.
//
//	go run ./cmd/internal/dev/webserver WORD...
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
)

const address = "127.0.0.1:4040"

func main() {
	host, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	dir, err := os.Getwd()
	if err != nil {
		log.Fatal(err)
	}
	text := fmt.Sprintf("this is %s in %s %s", host, dir, strings.Join(os.Args[1:], " "))
	fmt.Println("listening on", address)
	log.Fatal(http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println(r.Method, r.URL.Path)
		fmt.Fprintln(w, text)
	})))
}
