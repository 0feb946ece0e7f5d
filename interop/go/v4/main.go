// The programs that the tests of Rivulet run beside TypeScript, on go-micro v4: those of v5, whose other
// files are built for v4 by their imports (test/interop/go/go-programs.ts). Calls are mucp and gRPC, the
// registry is mdns or etcd://host:port, the broker http.
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/go-micro/plugins/v4/registry/etcd"
	"go-micro.dev/v4/broker"
	"go-micro.dev/v4/registry"
)

func main() {
	arg := os.Args[2:]
	switch os.Args[1] {
	case "serve":
		serve(arg[0], openRegistry(arg[1]), arg[2], arg[3])
	case "call":
		call(arg[0], openRegistry(arg[1]), arg[2])
	case "publish":
		publish(openBroker(openRegistry(arg[0])), arg[2])
	case "subscribe":
		subscribe(openBroker(openRegistry(arg[0])), openRegistry(arg[0]), arg[2])
	}
}

func openRegistry(address string) registry.Registry {
	scheme, rest, _ := strings.Cut(address, "://")
	if scheme == "etcd" {
		return etcd.NewRegistry(registry.Addrs(rest))
	}
	return registry.NewRegistry()
}

func openBroker(reg registry.Registry) broker.Broker {
	b := broker.NewBroker(broker.Registry(reg))
	must(b.Init())
	must(b.Connect())
	return b
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
