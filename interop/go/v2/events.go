package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/golang/protobuf/ptypes/wrappers"
	"github.com/micro/go-micro/v2/broker"
	"github.com/micro/go-micro/v2/client"
	mcli "github.com/micro/go-micro/v2/client/mucp"
	"github.com/micro/go-micro/v2/metadata"
	"github.com/micro/go-micro/v2/registry"
	"github.com/micro/go-micro/v2/server"
	msrv "github.com/micro/go-micro/v2/server/mucp"
)

func publish(b broker.Broker, topic string) {
	cl := mcli.NewClient(client.Broker(b))
	ctx := metadata.NewContext(context.Background(), metadata.Metadata{"X-Caller": "go-micro v2"})
	asJSON := client.WithMessageContentType("application/json")
	must(cl.Publish(ctx, cl.NewMessage(topic, &Request{ID: 7, What: "ü %"}, asJSON)))
	asProto := client.WithMessageContentType("application/protobuf")
	must(cl.Publish(ctx, cl.NewMessage(topic, &wrappers.StringValue{Value: "ü %"}, asProto)))
	fmt.Println("ready")
	// The http broker sends after Publish has returned.
	io.Copy(io.Discard, os.Stdin)
	must(b.Disconnect())
}

func subscribe(b broker.Broker, reg registry.Registry, topic string) {
	srv := msrv.NewServer(server.Name("go.subscriber"), server.Registry(reg), server.Broker(b), server.Address("127.0.0.1:0"))
	must(srv.Subscribe(srv.NewSubscriber(topic, func(ctx context.Context, event *Request) error {
		caller, _ := metadata.Get(ctx, "X-Caller")
		line, _ := json.Marshal(map[string]interface{}{"event": event, "caller": caller})
		fmt.Println(string(line))
		return nil
	})))
	must(srv.Start())
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	must(srv.Stop())
}
