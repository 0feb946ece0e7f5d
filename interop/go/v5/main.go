// The programs that the tests of Rivulet run beside TypeScript: a service, a client, a publisher and a
// subscriber on go-micro v5. Each prints its results as lines of JSON.
//
//	v5 serve PROTOCOL REGISTRY NAME USERS     serves NAME until its standard input ends; USERS is called
//	v5 call PROTOCOL REGISTRY SERVICE         calls SERVICE and prints the replies
//	v5 publish REGISTRY BROKER TOPIC          publishes one event as JSON and one as protobuf, and
//	                                          stays until its standard input ends
//	v5 subscribe REGISTRY BROKER TOPIC        prints the events of TOPIC until its standard input ends
//
// PROTOCOL is mucp or grpc. REGISTRY is mdns, or etcd://, nats:// or consul:// with host:port. BROKER is
// http, nats://host:port or amqp://user:password@host:port.
package main

import (
	"fmt"
	"os"
	"strings"

	"go-micro.dev/v5/broker"
	"go-micro.dev/v5/broker/nats"
	"go-micro.dev/v5/broker/rabbitmq"
	"go-micro.dev/v5/registry"
	"go-micro.dev/v5/registry/consul"
	"go-micro.dev/v5/registry/etcd"
	natsreg "go-micro.dev/v5/registry/nats"
)

func main() {
	arg := os.Args[2:]
	switch os.Args[1] {
	case "serve":
		serve(arg[0], openRegistry(arg[1]), arg[2], arg[3])
	case "call":
		call(arg[0], openRegistry(arg[1]), arg[2])
	case "publish":
		publish(openBroker(arg[1], openRegistry(arg[0])), arg[2])
	case "subscribe":
		subscribe(openBroker(arg[1], openRegistry(arg[0])), openRegistry(arg[0]), arg[2])
	}
}

func openRegistry(address string) registry.Registry {
	scheme, rest, _ := strings.Cut(address, "://")
	switch scheme {
	case "etcd":
		return etcd.NewEtcdRegistry(registry.Addrs(rest))
	case "nats":
		return natsreg.NewNatsRegistry(registry.Addrs(address))
	case "consul":
		return consul.NewConsulRegistry(registry.Addrs(rest))
	}
	return registry.NewMDNSRegistry()
}

func openBroker(address string, reg registry.Registry) broker.Broker {
	b := broker.NewHttpBroker(broker.Registry(reg))
	switch {
	case strings.HasPrefix(address, "nats:"):
		b = nats.NewNatsBroker(broker.Addrs(address))
	case strings.HasPrefix(address, "amqp:"):
		b = rabbitmq.NewBroker(broker.Addrs(address))
	}
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
