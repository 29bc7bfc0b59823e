// Command serve listens on the address given, says so, and answers every
// request with the first line of the file given.
package main

import (
	"bufio"
	"fmt"
	"log"
	"net"
	"os"
	"strings"
)

func main() {
	text, err := os.ReadFile(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	l, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("ready")
	for {
		conn, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		bufio.NewReader(conn).ReadString('\n')
		fmt.Fprintf(conn, "HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(line), line)
		conn.Close()
	}
}
