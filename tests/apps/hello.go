// A static Go server: no libc, so nothing that works by preloading a library would reach it.
// CGO_ENABLED=0 go build -o hello_go hello.go; ./hello_go PORT
// GET /block/MS: it accepts one more, and then nobody for so long.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

var pause int64

type pausing struct{ net.Listener }

func (listener pausing) Accept() (net.Conn, error) {
	time.Sleep(time.Duration(atomic.SwapInt64(&pause, 0)) * time.Millisecond)
	return listener.Listener.Accept()
}

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if ms, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/block/")); err == nil {
			atomic.StoreInt64(&pause, int64(ms))
		}
		fmt.Fprintf(w, "pid %d\n", os.Getpid())
	})
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err == nil {
		err = http.Serve(pausing{listener}, nil)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
