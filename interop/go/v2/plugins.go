//go:build plugins

// A program with the registries of ZooKeeper, Eureka and Consul and the broker of RabbitMQ, which are
// plugins of go-micro v2 and bring its whole toolkit.
package main

import (
	"github.com/micro/go-micro/v2/broker"
	"github.com/micro/go-micro/v2/registry"
	"github.com/micro/go-plugins/broker/rabbitmq/v2"
	"github.com/micro/go-plugins/registry/consul/v2"
	"github.com/micro/go-plugins/registry/eureka/v2"
	"github.com/micro/go-plugins/registry/zookeeper/v2"
)

func init() {
	registries["zookeeper"] = func(rest string) registry.Registry {
		return zookeeper.NewRegistry(registry.Addrs(rest))
	}
	registries["eureka"] = func(rest string) registry.Registry {
		return eureka.NewRegistry(registry.Addrs("http://" + rest))
	}
	registries["consul"] = func(rest string) registry.Registry {
		return consul.NewRegistry(registry.Addrs(rest))
	}
	brokers["amqp"] = func(address string) broker.Broker {
		return rabbitmq.NewBroker(broker.Addrs(address))
	}
}
