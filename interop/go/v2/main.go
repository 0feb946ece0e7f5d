// The programs that the tests of Rivulet run beside TypeScript: a service, a client, a publisher and a
// subscriber on go-micro v2. Each prints its results as lines of JSON.
//
//	v2 serve PROTOCOL REGISTRY NAME USERS     serves NAME until its standard input ends; USERS is called
//	v2 call PROTOCOL REGISTRY SERVICE         calls SERVICE and prints the replies
//	v2 bot PROTOCOL REGISTRY NAME             serves NAME as a command of the bot until its input ends
//	v2 publish REGISTRY BROKER TOPIC          publishes one event as JSON and one as protobuf, and
//	                                          stays until its standard input ends
//	v2 subscribe REGISTRY BROKER TOPIC        prints the events of TOPIC until its standard input ends
//
// PROTOCOL is mucp or grpc. REGISTRY is mdns or etcd://host:port, with the tag plugins zookeeper://,
// eureka:// or consul:// too. BROKER is http or nats://host:port, with the tag plugins amqp:// too.
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/micro/go-micro/v2/broker"
	"github.com/micro/go-micro/v2/broker/nats"
	"github.com/micro/go-micro/v2/registry"
	"github.com/micro/go-micro/v2/registry/etcd"
	"github.com/micro/go-micro/v2/registry/mdns"
)

func main() {
	arg := os.Args[2:]
	switch os.Args[1] {
	case "serve":
		serve(arg[0], openRegistry(arg[1]), arg[2], arg[3])
	case "call":
		call(arg[0], openRegistry(arg[1]), arg[2])
	case "bot":
		serveCommand(arg[0], openRegistry(arg[1]), arg[2])
	case "publish":
		publish(openBroker(arg[1], openRegistry(arg[0])), arg[2])
	case "subscribe":
		subscribe(openBroker(arg[1], openRegistry(arg[0])), openRegistry(arg[0]), arg[2])
	}
}

var registries = map[string]func(rest string) registry.Registry{
	"etcd": func(rest string) registry.Registry { return etcd.NewRegistry(registry.Addrs(rest)) },
}

var brokers = map[string]func(address string) broker.Broker{
	"nats": func(address string) broker.Broker { return nats.NewBroker(broker.Addrs(address)) },
}

func openRegistry(address string) registry.Registry {
	scheme, rest, _ := strings.Cut(address, "://")
	if open, ok := registries[scheme]; ok {
		return open(rest)
	}
	return mdns.NewRegistry()
}

func openBroker(address string, reg registry.Registry) broker.Broker {
	b := broker.NewBroker(broker.Registry(reg))
	scheme, _, _ := strings.Cut(address, ":")
	if open, ok := brokers[scheme]; ok {
		b = open(address)
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
