package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"go-micro.dev/v5/broker"
	"go-micro.dev/v5/client"
	"go-micro.dev/v5/metadata"
	"go-micro.dev/v5/registry"
	"go-micro.dev/v5/server"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func publish(b broker.Broker, topic string) {
	cl := client.NewClient(client.Broker(b))
	ctx := metadata.NewContext(context.Background(), metadata.Metadata{"X-Caller": "go-micro v5"})
	asJSON := client.WithMessageContentType("application/json")
	must(cl.Publish(ctx, cl.NewMessage(topic, &Request{ID: 7, What: "ü %"}, asJSON)))
	asProto := client.WithMessageContentType("application/protobuf")
	must(cl.Publish(ctx, cl.NewMessage(topic, &wrapperspb.StringValue{Value: "ü %"}, asProto)))
	fmt.Println("ready")
	// The http broker sends after Publish has returned.
	io.Copy(io.Discard, os.Stdin)
	must(b.Disconnect())
}

func subscribe(b broker.Broker, reg registry.Registry, topic string) {
	srv := server.NewRPCServer(server.Name("go.subscriber"), server.Registry(reg), server.Broker(b), server.Address("127.0.0.1:0"))
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
